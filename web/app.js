// The page: set the interview up, hold it, read it again. What the parts do stands in page/.

import "./avatar-player.js";
import { connectAddDialog } from "./page/add-avatar.js";
import { Details } from "./page/details.js";
import { el, make } from "./page/dom.js";
import { FinishView } from "./page/finish-view.js";
import { Interview } from "./interview.js";
import { InterviewView } from "./page/interview-view.js";
import { Interviewers } from "./page/interviewers.js";
import { QuestionList } from "./page/question-list.js";
import { QUESTIONS, ROLES } from "./page/questions.js";
import { requestJson, ServiceError, typedKey } from "./page/service.js";
import { connectRecording } from "./page/record-view.js";
import { AnswerRecorder } from "./page/recorder.js";
import { keepInTab, keptInTab, recall, remember } from "./page/settings.js";
import { notices, Stage } from "./page/stage.js";
import { language, LANGUAGES, setLanguage, t } from "./page/texts.js";
import { VoiceLine } from "./page/voice.js";
import { messageOf } from "./player/errors.js";
/** @import { KeptInterview } from "./interview.d.ts" */
/** @import { Avatar, Language, TextKey } from "./page/types.d.ts" */

const STARTING_MS = 2_000; // until a service that starts is asked again

const player = el("player");
const stage = new Stage(player);
const details = new Details(player, () => stage.unlock());
const recorder = new AnswerRecorder();
const finishView = new FinishView({ again: begin, back: () => show("setup") }, recorder);
const interviewView = new InterviewView(player, recorder, () => stage.unlock());
const voiceLine = new VoiceLine(player);
const interviewers = new Interviewers({ onChoose: choose, onProblem: (error) => problem(messageOf(error)) });
const list = new QuestionList((questions) => {
  remember("questions", questions);
  showCount();
});

let interviewLanguage = recall("interviewLanguage", language());
let role = recall("role", /** @type {typeof ROLES[number]} */ ("general"));

// --- words -------------------------------------------------------------------------------------------------

/** @param {string} selector @returns {NodeListOf<HTMLElement>} */
const all = (selector) => document.querySelectorAll(selector);

/** @param {string | undefined} name in the document; that it is a key is tested */
const textKey = (name) => /** @type {TextKey} */ (name);

function applyLanguage() {
  document.documentElement.lang = language();
  document.title = `${t("documentTitle")} · museserve`;
  for (const node of all("[data-text]")) node.textContent = t(textKey(node.dataset.text));
  for (const node of all("[data-label]")) node.setAttribute("aria-label", t(textKey(node.dataset.label)));
  for (const node of all("[data-title]")) node.title = t(textKey(node.dataset.title));
  for (const button of all("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === language()));
  }
  showChoices();
  showCount();
  interviewers.render();
  list.render();
  for (const part of [stage, details, interviewView, finishView, voiceLine]) part.render();
  document.body.classList.remove("wordless");
}

/** @param {Language} chosen */
function useLanguage(chosen) {
  setLanguage(chosen);
  applyLanguage();
}

// --- set up ------------------------------------------------------------------------------------------------

/** Radio buttons side by side.
 * @template {string} Value @param {HTMLElement} box @param {string} name
 * @param {{ value: Value, text: string, lang?: string }[]} values @param {Value} chosen
 * @param {(value: Value) => void} change */
function segments(box, name, values, chosen, change) {
  const labels = values.map(({ value, text, lang }) => {
    const input = make("input", { type: "radio", name, value, checked: value === chosen });
    input.addEventListener("change", () => change(value));
    return make("label", lang ? { lang } : {}, input, make("span", {}, text));
  });
  const focused = box.contains(document.activeElement);
  box.replaceChildren(...labels);
  if (focused) /** @type {HTMLElement | null} */ (box.querySelector(":checked"))?.focus();
}

function showChoices() {
  const names = { en: "English", ko: "한국어" };
  const languages = LANGUAGES.map((tag) => ({ value: tag, text: names[tag], lang: tag }));
  segments(el("interview-languages"), "interview-language", languages, interviewLanguage, (tag) => {
    interviewLanguage = tag;
    remember("interviewLanguage", tag);
    useLanguage(tag);
    offer();
  });
  const roles = ROLES.map((name) => ({ value: name, text: t(`role_${name}`) }));
  segments(el("roles"), "role", roles, role, (name) => {
    role = name;
    remember("role", name);
    offer();
  });
}

/** Shows the questions of the chosen role and language; what stood there can be brought back. */
function offer() {
  list.show(QUESTIONS[interviewLanguage][role], t("replaced"));
}

function showCount() {
  const n = list.filled.length;
  el("begin-count").textContent = n === 1 ? t("minutesOne") : t("minutes", { n });
}

/** @param {string} text */
function problem(text) {
  el("setup-problem").hidden = !text;
  el("setup-problem").textContent = text;
}

/** @param {Avatar} avatar */
function choose(avatar) {
  remember("avatar", avatar.id);
  player.avatar = avatar.id;
  problem("");
}

// --- the three views ---------------------------------------------------------------------------------------

/** @param {"setup" | "interview" | "finish"} view */
function show(view) {
  document.body.dataset.view = view;
  for (const name of ["setup", "interview", "finish"]) el(name).hidden = name !== view;
  scrollTo({ top: 0 });
  el({ setup: "setup-title", interview: "step", finish: "finish-title" }[view]).focus({ preventScroll: true });
  if (view === "setup" && ["off", "failed"].includes(player.state)) stage.connect();
}

async function begin() {
  const questions = list.filled;
  if (!questions.length) {
    problem(t("needQuestion"));
    if (list.all.length) list.focus(0);
    else el("add-question").focus();
    return;
  }
  problem("");
  const allowed = stage.unlock(); // inside the click or key press, or the browser allows no sound
  recorder.delete();
  const interview = hold(questions);
  await allowed;
  interview.begin();
}

/** @type {Interview | null} */ let held = null; // the one that goes on

/** Shows an interview, from its beginning or as it was kept.
 * @param {string[]} questions @param {KeptInterview | null} [kept] */
function hold(questions, kept = null) {
  const hooks = {
    onChange: (/** @type {Interview} */ now) => {
      if (now.state !== "done") keepInTab(now.kept);
      recorder.follow(now.index, now.state);
      interviewView.show(now);
    },
    onDone: (/** @type {Interview} */ done) => {
      held = null;
      keepInTab(null);
      interviewView.show(null);
      player.stopListening();
      finishView.show(done, interviewers.chosen ? interviewers.nameOf(interviewers.chosen) : "");
      show("finish");
      recorder.finish().then(() => finishView.render());
    },
  };
  held = new Interview(player, questions, hooks, kept);
  interviewView.show(held);
  show("interview");
  return held;
}

addEventListener("beforeunload", (event) => {
  if ((held && held.state !== "paused") || recorder.any) event.preventDefault();
});
addEventListener("pagehide", () => {
  if (held) keepInTab(held.kept);
});

el("setup").addEventListener("submit", (event) => {
  event.preventDefault();
  begin();
});
for (const button of all("[data-language]")) {
  button.addEventListener("click", () => useLanguage(/** @type {Language} */ (button.dataset.language)));
}
connectRecording(recorder);
connectAddDialog((id) => interviewers.load(id));

list.show(recall("questions", QUESTIONS[interviewLanguage][role]));
applyLanguage();
const kept = /** @type {KeptInterview | null} */ (keptInTab());
if (kept) hold(kept.questions, kept);

async function start() {
  try {
    const answers = [requestJson("v1/voices"), requestJson("health"), interviewers.fetch()];
    const [voices, early] = await Promise.all(answers);
    player.token = typedKey();
    const health = typedKey() ? await requestJson("health") : early; // without a key it tells little
    details.service = { health, voices: voices.data };
    finishView.transcription = health.transcription ?? null;
    interviewers.choose(recall("avatar", health.default_avatar));
    notices.clear("start");
    el("begin").disabled = false;
  } catch (error) {
    if (error instanceof ServiceError && error.code === "starting") {
      notices.show("start", { key: "e_starting" });
      setTimeout(start, STARTING_MS);
      return;
    }
    notices.show("start", { key: "e_plain", values: { message: messageOf(error) }, label: "retry", act: start });
    return;
  }
  await stage.connect();
}

start();
