// The few words that the element itself shows.

const TEXTS = {
  en: {
    connecting: "Connecting …",
    quiet: "The service does not answer. It goes on by itself when it does.",
    reconnecting: "The connection was lost. Trying again …",
    failed: "The interviewer cannot be shown.",
    retry: "Try again",
    locked: "The sound is off until you allow it.",
    unlock: "Turn on sound",
    label: "Interviewer",
    generated: "AI-generated",
  },
  ko: {
    connecting: "연결하는 중 …",
    quiet: "서비스가 응답하지 않습니다. 응답이 오면 자동으로 이어집니다.",
    reconnecting: "연결이 끊겼습니다. 다시 연결하는 중 …",
    failed: "면접관을 표시할 수 없습니다.",
    retry: "다시 시도",
    locked: "허용하기 전에는 소리가 나지 않습니다.",
    unlock: "소리 켜기",
    label: "면접관",
    generated: "AI로 생성된 영상",
  },
};

/** @typedef {keyof typeof TEXTS["en"]} TextKey */

/** In the language of the page around `element`; English where there is no other.
 * @param {Element} element @returns {Record<TextKey, string>} */
export function textsFor(element) {
  const around = /** @type {HTMLElement | null} */ (element.closest("[lang]"));
  const language = (around?.lang ?? "en").split("-")[0].toLowerCase();
  return Object.hasOwn(TEXTS, language) ? TEXTS[/** @type {keyof typeof TEXTS} */ (language)] : TEXTS.en;
}
