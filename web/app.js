// The page: set the interview up, hold it, read it again. What the parts do stands in page/.

import "./avatar-player.js";
import { connectAddDialog } from "./page/add-avatar.js";
import { Details } from "./page/details.js";
import { el, make } from "./page/dom.js";
import { FinishView } from "./page/finish-view.js";
import { Interview } from "./page/interview.js";
import { InterviewView } from "./page/interview-view.js";
import { Interviewers } from "./page/interviewers.js";
import { QuestionList } from "./page/question-list.js";
import { QUESTIONS, ROLES } from "./page/questions.js";
import { askJson } from "./page/service.js";
import { recall, remember } from "./page/settings.js";
import { notices, Stage } from "./page/stage.js";
import { language, LANGUAGES, say, setLanguage } from "./page/texts.js";

const player = el("player");
const stage = new Stage(player);
const details = new Details(player, () => stage.unlock());
const finishView = new FinishView({ again: begin, back: () => show("setup") });
const interviewView = new InterviewView(player);
const interviewers = new Interviewers({ onChoose: choose, onProblem: (error) => problem(error.message) });
const list = new QuestionList((questions) => {
  remember("questions", questions);
  showCount();
});

let spoken = recall("interviewLanguage", null) ?? language(); // the language of the interview
let role = recall("role", "general");

// --- words -----------------------------------------------------------------------------------------------------------------

function applyLanguage() {
  document.documentElement.lang = language();
  document.title = `${say("documentTitle")} · museserve`;
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = say(node.dataset.text);
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", say(node.dataset.label));
  for (const node of document.querySelectorAll("[data-title]")) node.title = say(node.dataset.title);
  for (const button of document.querySelectorAll("[data-language]")) button.setAttribute("aria-pressed", String(button.dataset.language === language()));
  showChoices();
  showCount();
  interviewers.render();
  list.render();
  for (const part of [stage, details, interviewView, finishView]) part.render();
}

function useLanguage(chosen) {
  setLanguage(chosen);
  applyLanguage();
}

// --- set up ----------------------------------------------------------------------------------------------------------------

function segments(box, name, values, chosen, change) {
  const labels = values.map(([value, text, lang]) => {
    const input = make("input", { type: "radio", name, value, checked: value === chosen });
    input.addEventListener("change", () => change(value));
    return make("label", lang ? { lang } : {}, input, make("span", {}, text));
  });
  const focused = box.contains(document.activeElement);
  box.replaceChildren(...labels);
  if (focused) box.querySelector(":checked").focus();
}

function showChoices() {
  const names = { en: "English", ko: "한국어" };
  segments(el("interview-languages"), "interview-language", LANGUAGES.map((tag) => [tag, names[tag], tag]), spoken, (tag) => {
    spoken = tag;
    remember("interviewLanguage", tag);
    useLanguage(tag);
    offer();
  });
  segments(el("roles"), "role", ROLES.map((name) => [name, say(`role_${name}`)]), role, (name) => {
    role = name;
    remember("role", name);
    offer();
  });
}

/** Shows the questions of the chosen role and language; what stood there can be brought back. */
function offer() {
  list.show(QUESTIONS[spoken][role], say("replaced"));
}

function showCount() {
  const n = list.asked.length;
  el("begin-count").textContent = n === 1 ? say("minutesOne") : say("minutes", { n });
}

function problem(text) {
  el("setup-problem").hidden = !text;
  el("setup-problem").textContent = text;
}

function choose(avatar) {
  remember("avatar", avatar.id);
  player.avatar = avatar.id;
  problem("");
}

// --- the three views -------------------------------------------------------------------------------------------------------

function show(view) {
  document.body.dataset.view = view;
  for (const name of ["setup", "interview", "finish"]) el(name).hidden = name !== view;
  scrollTo({ top: 0 });
  el({ setup: "setup-title", interview: "step", finish: "finish-title" }[view]).focus({ preventScroll: true });
  if (view === "setup" && ["off", "failed"].includes(player.state)) stage.connect();
}

async function begin() {
  const questions = list.asked;
  if (!questions.length) {
    problem(say("needQuestion"));
    if (list.all.length) list.focus(0);
    else el("add-question").focus();
    return;
  }
  problem("");
  const allowed = stage.unlock(); // inside the click or key press, or the browser allows no sound
  const interview = new Interview(player, questions, {
    onChange: (now) => interviewView.show(now),
    onDone: (done) => {
      interviewView.show(null);
      player.stopListening();
      finishView.show(done, interviewers.chosen ? interviewers.nameOf(interviewers.chosen) : "");
      show("finish");
    },
  });
  interviewView.show(interview);
  show("interview");
  await allowed;
  interview.begin();
}

el("setup").addEventListener("submit", (event) => {
  event.preventDefault();
  begin();
});
for (const button of document.querySelectorAll("[data-language]")) button.addEventListener("click", () => useLanguage(button.dataset.language));
connectAddDialog((id) => interviewers.load(id));

async function start() {
  list.show(recall("questions", QUESTIONS[spoken][role]));
  applyLanguage();
  try {
    const [health, voices] = await Promise.all([askJson("health"), askJson("v1/voices")]);
    details.service = { health, voices: voices.data };
    await interviewers.load(recall("avatar", health.default_avatar));
    notices.clear("start");
    el("begin").disabled = false;
  } catch (error) {
    notices.show("start", { key: "e_plain", values: { message: error.message }, label: "retry", act: start });
    return;
  }
  await stage.connect();
}

start();
