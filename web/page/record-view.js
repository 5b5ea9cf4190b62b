// Whether answers are recorded: the choice, and whether the microphone hears.

import { messageOf } from "../player/errors.js";
import { el } from "./dom.js";
import { notices } from "./stage.js";
/** @import { AnswerRecorder } from "./recorder.js" */

/** @param {AnswerRecorder} recorder */
export function connectRecording(recorder) {
  const render = () => {
    el("record").setAttribute("aria-pressed", String(recorder.opened));
    el("microphone").hidden = !recorder.opened;
  };
  el("record").addEventListener("click", async () => {
    notices.clear("record");
    if (recorder.opened) recorder.close();
    else {
      try {
        await recorder.open((level) => (el("level").value = level));
      } catch (error) {
        const values = { message: messageOf(error) };
        const act = () => void notices.clear("record");
        notices.show("record", { key: "e_record", values, label: "close", act });
      }
    }
    render();
  });
}
