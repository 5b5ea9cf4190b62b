// The transcript of an interview as plain text and as WebVTT.

/** @import { Entry } from "../interview.d.ts" */
/** @import { Words } from "./types.d.ts" */

const CUE_LEAST_S = 0.5;

/** @param {number} n */
const two = (n) => String(n).padStart(2, "0");

/** Seconds as 00:01:15.250. @param {number} seconds */
export function stamp(seconds) {
  const ms = Math.max(0, Math.round(seconds * 1000));
  const whole = Math.floor(ms / 1000);
  const clock = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60].map(two).join(":");
  return `${clock}.${String(ms % 1000).padStart(3, "0")}`;
}

/** @param {number} seconds */
const short = (seconds) => stamp(seconds).slice(3, 8);

/** @param {Entry[]} entries @param {Words} words @param {Map<number, string>} written answers, by their index */
export function plainText(entries, words, written) {
  const lines = [words.title, words.interviewer, words.date, ""];
  for (const [i, entry] of entries.entries()) {
    const notes = [entry.skipped ? words.skipped : words.answer(short(entry.answered))];
    if (entry.repeats) notes.push(words.repeated(entry.repeats));
    lines.push(`[${short(entry.askedAt)}] ${i + 1}. ${entry.question}`, `        ${notes.join(" · ")}`);
    const answer = written.get(i);
    if (answer) lines.push(`        ${answer}`);
    lines.push("");
  }
  return lines.join("\n");
}

/** @param {string} text */
const escaped = (text) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replace(/\s*\n\s*/g, " ");

/** One cue for each question from when it was asked until the next one, or until the end.
 * @param {Entry[]} entries @param {string} speaker */
export function webVtt(entries, speaker) {
  const cues = entries.map(({ question, askedAt, doneAt }, i) => {
    const end = Math.max(doneAt ?? 0, askedAt + CUE_LEAST_S);
    return `${i + 1}\n${stamp(askedAt)} --> ${stamp(end)}\n<v ${escaped(speaker)}>${escaped(question)}\n`;
  });
  return `WEBVTT\n\n${cues.join("\n")}`;
}
