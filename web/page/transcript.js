// The transcript of an interview as plain text and as WebVTT. An entry: {question, askedAt, heardAt, doneAt, repeats, skipped},
// times in seconds since the interview began; heardAt is null when the question was not heard to its end.

const two = (n) => String(n).padStart(2, "0");

/** Seconds as 00:01:15.250. */
export function stamp(seconds) {
  const ms = Math.max(0, Math.round(seconds * 1000));
  const whole = Math.floor(ms / 1000);
  return `${two(Math.floor(whole / 3600))}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}.${String(ms % 1000).padStart(3, "0")}`;
}

const short = (seconds) => stamp(seconds).slice(3, 8);

/** How long the candidate took to answer, in seconds; 0 when the question was skipped. */
export const answered = ({ heardAt, doneAt, skipped }) => (skipped || heardAt === null ? 0 : Math.max(0, doneAt - heardAt));

/** `words`: {title, interviewer, date, answer: (seconds) => text, skipped, repeated: (n) => text}, in the language of the page. */
export function plainText(entries, words) {
  const lines = [words.title, words.interviewer, words.date, ""];
  entries.forEach((entry, i) => {
    const notes = [entry.skipped ? words.skipped : words.answer(short(answered(entry))), entry.repeats ? words.repeated(entry.repeats) : ""];
    lines.push(`[${short(entry.askedAt)}] ${i + 1}. ${entry.question}`, `        ${notes.filter(Boolean).join(" · ")}`, "");
  });
  return lines.join("\n");
}

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replace(/\s*\n\s*/g, " ");

/** One cue for each question from when it was asked until the next one, or until the end. */
export function webVtt(entries, speaker) {
  const cues = entries.map(
    ({ question, askedAt, doneAt }, i) => `${i + 1}\n${stamp(askedAt)} --> ${stamp(Math.max(doneAt, askedAt + 0.5))}\n<v ${escaped(speaker)}>${escaped(question)}\n`,
  );
  return `WEBVTT\n\n${cues.join("\n")}`;
}
