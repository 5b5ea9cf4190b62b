// The page: choose, speak, watch, and see where the time went.

import { Captions } from "./captions.js";
import { attach, feed, mediaSourceClass } from "./stream.js";
import { EXAMPLES, fill, preferredLanguage, rememberLanguage, TEXTS } from "./texts.js";
import { Clock, parseServerTiming, showRows } from "./timings.js";

const el = (id) => document.getElementById(id);
const stage = el("stage");
const talk = el("talk");
const idle = el("idle");
const still = matchMedia("(prefers-reduced-motion: reduce)");

let language = preferredLanguage();
let avatars = [];
let voices = [];
let health = null;
let avatar = null;
let current = null; // the AbortController of the utterance that is made or played

const captions = new Captions(talk, { shown: true });

const say = (key, values = {}) => fill(TEXTS[language][key], values);

// --- words -----------------------------------------------------------------------------------------------------------------

function applyLanguage() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = say(node.dataset.text);
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", say(node.dataset.label));
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === language));
  }
  if (!el("image").files.length) el("file-name").textContent = say("noFile");
  showCount();
  showHealth();
  if (avatars.length) {
    showAvatars();
    showVoices();
    nameStage();
  }
}

function showStatus(key, values) {
  el("status").textContent = key ? say(key, values) : "";
}

function showProblem(message) {
  el("problem").hidden = !message;
  el("problem").textContent = message ?? "";
}

function showCount() {
  el("count").textContent = say("characters", { n: [...el("text").value].length });
}

function showHealth() {
  if (!health) return;
  const { engine, speech } = health;
  el("health").textContent = say("health", {
    engine: [engine.name, engine.version].filter(Boolean).join(" "),
    device: engine.device,
    engineReason: engine.reason,
    speech: speech.engine,
    speechReason: speech.reason,
  });
}

// --- asking the service ----------------------------------------------------------------------------------------------------

class ServiceError extends Error {}

/** A response with a 2xx status, or a ServiceError with the service's own words. */
async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError(say("e_network"));
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? response.statusText;
  const retry = Number(response.headers.get("Retry-After"));
  const words = [say("e_status", { status: response.status, message }), retry ? say("e_retry", { seconds: retry }) : ""];
  const failure = new ServiceError(words.join(" ").trim());
  failure.reason = message;
  throw failure;
}

const askJson = async (path) => (await ask(path)).json();

// --- avatars and voices ----------------------------------------------------------------------------------------------------

const avatarUrl = ({ id }, part = "") => `v1/avatars/${encodeURIComponent(id)}${part}`;

function showAvatars() {
  const tiles = avatars.map((one) => {
    const label = document.createElement("label");
    label.className = "avatar";
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "avatar", value: one.id, checked: one.id === avatar?.id });
    radio.addEventListener("change", () => chooseAvatar(one));
    const picture = Object.assign(document.createElement("img"), { src: avatarUrl(one, "/portrait"), alt: "", width: 72, height: 72, decoding: "async" });
    const name = Object.assign(document.createElement("span"), { textContent: one.name });
    label.append(radio, picture, name);
    if (one.builtin) return label;
    const remove = Object.assign(document.createElement("button"), { type: "button", className: "remove", textContent: "×" });
    remove.setAttribute("aria-label", say("removeAvatar", one));
    remove.addEventListener("click", () => removeAvatar(one));
    const wrapper = Object.assign(document.createElement("div"), { className: "own" });
    wrapper.append(label, remove);
    return wrapper;
  });
  const add = Object.assign(document.createElement("button"), { type: "button", className: "avatar add" });
  add.append(Object.assign(document.createElement("i"), { textContent: "+" }), Object.assign(document.createElement("span"), { textContent: say("addAvatar") }));
  add.firstChild.setAttribute("aria-hidden", "true");
  add.addEventListener("click", openAdd);
  el("avatars").replaceChildren(...tiles, add);
}

function chooseAvatar(one) {
  if (avatar) showStatus("ready");
  stop();
  avatar = one;
  el("replay").hidden = true;
  el("portrait").src = avatarUrl(one, "/portrait");
  idle.classList.remove("shown");
  loadIdle(one).catch(() => {}); // the portrait stays
  nameStage();
}

/** From memory, because the loop is only seekable then, and it must go on from where speech left it. */
async function loadIdle(one) {
  const loop = await (await ask(avatarUrl(one, "/idle"))).blob();
  if (avatar !== one) return; // another was chosen meanwhile
  if (idle.src) URL.revokeObjectURL(idle.src);
  idle.src = URL.createObjectURL(loop);
  startIdle();
}

function nameStage() {
  el("portrait").alt = say("portraitOf", avatar);
  talk.setAttribute("aria-label", say("talking", avatar));
}

function startIdle() {
  if (still.matches) idle.pause();
  else idle.play().catch(() => {}); // refused by the browser: the portrait stays
}

function showVoices() {
  const names = new Intl.DisplayNames([language], { type: "language" });
  const select = el("voice");
  const chosen = select.value;
  select.replaceChildren(
    Object.assign(document.createElement("option"), { value: "auto", textContent: say("voiceAuto") }),
    ...voices.map((voice) => {
      const spoken = (voice.languages ?? []).slice(0, 3).map((tag) => names.of(tag));
      const more = (voice.languages ?? []).length > 3 ? " …" : "";
      const parts = [voice.name ?? voice.id, say(voice.gender === "male" ? "male" : "female"), spoken.join(", ") + more];
      return Object.assign(document.createElement("option"), { value: voice.id, textContent: parts.filter(Boolean).join(" · ") });
    }),
  );
  select.value = chosen || "auto";
}

async function removeAvatar(one) {
  if (!confirm(say("removeAsk", one))) return;
  try {
    await ask(avatarUrl(one), { method: "DELETE" });
  } catch (error) {
    showProblem(error.message);
    return;
  }
  avatars = avatars.filter(({ id }) => id !== one.id);
  if (avatar.id === one.id) chooseAvatar(avatars[0]);
  showAvatars();
  showStatus("removed", one);
}

// --- one utterance ---------------------------------------------------------------------------------------------------------

function setStage(state) {
  stage.dataset.state = state;
  const busy = state === "waiting" || state === "talking";
  el("speak").hidden = busy;
  el("stop").hidden = !busy;
  el("stage-stop").hidden = !busy;
  el("keys").hidden = busy;
}

/** Ends what is made or played, and lets go of its request; the service drops the rest. */
function stop() {
  if (!current) return;
  current.abort(new DOMException("stopped", "AbortError"));
  current = null;
  talk.pause();
  setStage("idle");
  startIdle();
}

async function speak() {
  stop();
  showProblem(null);
  const text = el("text").value.trim();
  if (!text) {
    showProblem(say("needText"));
    el("text").focus();
    return;
  }
  const run = new AbortController();
  current = run;
  const streamed = mediaSourceClass() !== null;
  const clock = new Clock();
  el("replay").hidden = true;
  el("timings").hidden = true;
  captions.clear();
  setStage("waiting");
  showStatus(streamed ? "waiting" : "waitingWhole");
  if (document.activeElement === document.body) el("stop").focus({ preventScroll: true }); // the button that was clicked has just gone
  stage.scrollIntoView({ block: "nearest", behavior: still.matches ? "auto" : "smooth" }); // on a phone the button is far below it

  const opened = streamed ? attach(talk, run.signal) : null;
  opened?.catch(() => {});
  watch(run, clock);
  talk.play().catch(() => {}); // inside the click, so that sound is allowed; it starts when the first fragment is there

  try {
    const response = await ask("v1/videos", {
      method: "POST",
      signal: run.signal,
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ text, avatar: avatar.id, voice: el("voice").value, speed: Number(el("speed").value), language: "auto", stream: streamed }),
    });
    clock.mark("response");
    const stages = parseServerTiming(response.headers.get("Server-Timing"));
    const played = streamed ? playStream(response, await opened, run, clock) : playWhole(response, run, clock);
    const utterance = response.headers.get("X-Utterance-Id");
    if (utterance) {
      captions.load(`v1/videos/${encodeURIComponent(utterance)}/captions.vtt`, run.signal).catch(() => {}); // captions never stop the video
    }
    const counts = await played;
    if (current === run) showTimings(clock, stages, counts);
  } catch (error) {
    if (current !== run) return; // stopped by hand, or another utterance has begun
    showProblem(error.message);
    if (talk.buffered.length === 0) {
      stop();
      showStatus(null);
    }
  }
}

async function playStream(response, source, run, clock) {
  const codecs = response.headers.get("X-Codecs");
  const mimeType = codecs ? `video/mp4; codecs="${codecs}"` : response.headers.get("Content-Type");
  try {
    return await feed({
      response,
      source,
      video: talk,
      mimeType,
      signal: run.signal,
      marks: { firstBytes: () => clock.mark("firstBytes"), received: () => clock.mark("received") },
    });
  } catch (error) {
    if (source.readyState === "open" && talk.buffered.length) source.endOfStream(); // what arrived is played to its end
    throw run.signal.aborted ? error : new Error(say("e_broken", { message: error.message }));
  }
}

async function playWhole(response, run, clock) {
  const blob = await response.blob();
  clock.mark("firstBytes");
  clock.mark("received");
  if (talk.dataset.url) URL.revokeObjectURL(talk.dataset.url);
  talk.dataset.url = URL.createObjectURL(blob);
  talk.src = talk.dataset.url;
  talk.play().catch((error) => {
    if (error.name !== "NotAllowedError" || current !== run) return;
    finish(run); // this browser wants a click for sound: the replay button is that click
  });
  return { bytes: blob.size, fragments: 0, dried: 0 };
}

/** Follows the talking video from its first picture to its end. */
function watch(run, clock) {
  const { signal } = run;
  const painted = (at) => {
    if (signal.aborted) return;
    clock.mark("firstFrame", at);
    setStage("talking");
    showStatus("speaking");
  };
  const starts = { once: true, signal };
  if (talk.requestVideoFrameCallback) talk.requestVideoFrameCallback((_, frame) => painted(frame.presentationTime));
  else talk.addEventListener("playing", () => painted(), starts);
  talk.addEventListener("playing", () => clock.mark("playing"), starts);
  talk.addEventListener("waiting", () => stage.dataset.state === "talking" && !talk.seeking && showStatus("starving"), { signal });
  talk.addEventListener("playing", () => stage.dataset.state === "talking" && showStatus("speaking"), { signal });
  talk.addEventListener("ended", () => finish(run), { signal });
  talk.addEventListener(
    "error",
    () => {
      showProblem(say("e_play", { message: talk.error?.message || `code ${talk.error?.code}` }));
      stop();
    },
    starts,
  );
}

function finish(run) {
  if (current !== run) return;
  el("replay").hidden = false;
  showFrames();
  // Speech was drawn onto the idle loop from its first picture on: let the loop go on from where the speech left it.
  if (idle.duration > 0 && Number.isFinite(talk.duration)) idle.currentTime = talk.duration % idle.duration;
  setStage("idle");
  showStatus("done");
  startIdle();
}

function replay() {
  if (!current) return;
  talk.currentTime = 0;
  el("replay").hidden = true;
  setStage("talking");
  showStatus("speaking");
  talk.play().catch((error) => showProblem(say("e_play", { message: error.message })));
}

// --- timings ---------------------------------------------------------------------------------------------------------------

let lastCounts = null;

function showTimings({ marks }, stages, counts) {
  const order = ["response", "firstBytes", "firstFrame", "playing", "received"].filter((name) => marks.has(name));
  showRows(
    el("client-times"),
    order.map((name) => ({ label: say(`t_${name}`), ms: marks.get(name), bar: name !== "received" })),
  );
  showRows(
    el("server-times"),
    stages.map(({ name, ms, description }) => ({ label: description || name.replaceAll("_", " "), ms, bar: true })),
  );
  lastCounts = counts;
  showFrames();
  el("timings").hidden = false;
}

function showFrames() {
  if (!lastCounts) return;
  const { totalVideoFrames: frames, droppedVideoFrames: dropped } = talk.getVideoPlaybackQuality();
  const seconds = Number.isFinite(talk.duration) ? talk.duration.toFixed(2) : "…";
  const values = { ...lastCounts, seconds, kilobytes: Math.round(lastCounts.bytes / 1000), frames: frames - dropped, dropped };
  el("facts").textContent = say(lastCounts.fragments ? "facts" : "factsWhole", values);
}

// --- a portrait of one's own -----------------------------------------------------------------------------------------------

let named = ""; // the name that the chosen file suggested

function openAdd() {
  el("add-form").reset();
  showReport(null);
  el("add-status").textContent = "";
  showFile();
  el("add").showModal();
}

function showFile() {
  const [file] = el("image").files;
  const preview = el("preview");
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.hidden = !file;
  if (file) preview.src = URL.createObjectURL(file);
  else preview.removeAttribute("src");
  el("file-name").textContent = file ? file.name : say("noFile");
  const name = file?.name.replace(/\.[^.]*$/, "").slice(0, 60) ?? "";
  if ([named, ""].includes(el("name").value)) el("name").value = name; // until somebody types another
  named = name;
}

const plain = (value) => {
  if (typeof value === "boolean") return say(value ? "yes" : "no");
  if (typeof value === "number") return String(Math.round(value * 100) / 100);
  return Array.isArray(value) ? value.map(plain).join(", ") : String(value);
};

/** Sentences as a list, and below them, folded, what was measured. */
function showReport(title, sentences = [], measured = {}) {
  const box = el("report");
  box.hidden = !title;
  if (!title) return;
  const list = document.createElement("ul");
  list.replaceChildren(...sentences.map((sentence) => Object.assign(document.createElement("li"), { textContent: sentence })));
  box.replaceChildren(Object.assign(document.createElement("h3"), { textContent: title }), list);
  const terms = Object.entries(measured).filter(([, value]) => value !== null && value !== "" && value.length !== 0);
  if (!terms.length) return;
  const table = document.createElement("dl");
  for (const [key, value] of terms) {
    table.append(
      Object.assign(document.createElement("dt"), { textContent: key.replaceAll("_", " ") }),
      Object.assign(document.createElement("dd"), { textContent: plain(value) }),
    );
  }
  const details = document.createElement("details");
  details.append(Object.assign(document.createElement("summary"), { textContent: say("measured") }), table);
  box.append(details);
}

async function addAvatar() {
  const [file] = el("image").files;
  const name = el("name").value.trim();
  if (!file || !name) {
    el("add-status").textContent = say(file ? "needName" : "needFile");
    el(file ? "name" : "image").focus();
    return;
  }
  const body = new FormData();
  body.set("image", file);
  body.set("name", name);
  body.set("gender", el("gender").value);
  el("add-send").disabled = true;
  el("add-status").textContent = say("preparing");
  showReport(null);
  try {
    const added = await (await ask("v1/avatars", { method: "POST", body })).json();
    avatars = (await askJson("v1/avatars")).data;
    const one = avatars.find(({ id }) => id === added.id) ?? added;
    chooseAvatar(one);
    showAvatars();
    el("add-status").textContent = say("added", one);
    const { warnings = [], ...measured } = added.report ?? {};
    showReport(say("reportTitle"), warnings.length ? warnings : [say("noWarnings")], measured);
  } catch (error) {
    el("add-status").textContent = "";
    showReport(say("refused"), [error.reason ?? error.message]);
  } finally {
    el("add-send").disabled = false;
  }
}

// --- events ----------------------------------------------------------------------------------------------------------------

el("form").addEventListener("submit", (event) => {
  event.preventDefault();
  speak();
});
for (const id of ["stop", "stage-stop"]) {
  el(id).addEventListener("click", () => {
    stop();
    showStatus("stopped");
    el("speak").focus({ preventScroll: true });
  });
}
el("replay").addEventListener("click", replay);
el("captions").addEventListener("click", (event) => {
  captions.shown = !captions.shown;
  event.currentTarget.setAttribute("aria-pressed", String(captions.shown));
});
el("text").addEventListener("input", showCount);
el("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    speak();
  }
});
const showSpeed = () => (el("speed-value").textContent = `× ${Number(el("speed").value).toFixed(2)}`);
el("speed").addEventListener("input", showSpeed);
for (const chip of document.querySelectorAll("[data-example]")) {
  chip.addEventListener("click", () => {
    el("text").value = EXAMPLES[chip.dataset.example];
    showCount();
  });
}
for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => {
    language = button.dataset.language;
    rememberLanguage(language);
    applyLanguage();
    el("timings").hidden = true;
    showStatus("ready");
  });
}
idle.addEventListener("playing", () => idle.classList.add("shown"));
still.addEventListener("change", startIdle);

el("add-form").addEventListener("submit", (event) => {
  event.preventDefault();
  addAvatar();
});
el("add-close").addEventListener("click", () => el("add").close());
el("image").addEventListener("change", showFile);
el("drop").addEventListener("dragover", (event) => event.preventDefault());
el("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  if (!event.dataTransfer.files.length) return;
  el("image").files = event.dataTransfer.files;
  showFile();
});

async function start() {
  el("text").value = EXAMPLES[language];
  showSpeed();
  applyLanguage();
  showStatus("loading");
  el("speak").disabled = true;
  try {
    const lists = await Promise.all([askJson("v1/avatars"), askJson("v1/voices"), askJson("health")]);
    avatars = lists[0].data;
    voices = lists[1].data;
    health = lists[2];
  } catch (error) {
    showStatus(null);
    showProblem(error.message);
    return;
  }
  showVoices();
  chooseAvatar(avatars.find(({ id }) => id === health.default_avatar) ?? avatars[0]);
  applyLanguage();
  showStatus("ready");
  el("speak").disabled = false;
}

start();
