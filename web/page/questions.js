// Questions to begin with, for roles in software, in both languages. {language: {role: [question]}}

/** @import { Language } from "./types.d.ts" */

export const ROLES = /** @type {const} */ (["general", "frontend", "backend", "data"]);

/** @type {Record<Language, Record<typeof ROLES[number], string[]>>} */
export const QUESTIONS = {
  en: {
    general: [
      "Please introduce yourself. What brought you to software?",
      "Tell me about a project you are proud of. What was your part in it?",
      "Tell me about a time you disagreed with a teammate. How did you settle it?",
      "What is something you learned recently, and how did you learn it?",
      "Why do you want to work with us?",
    ],
    frontend: [
      "Please introduce yourself and the user interface you are most proud of.",
      "A page feels slow to its users. How do you find out why?",
      "How do you decide where the state of an application should live?",
      "How do you make sure that everybody can use what you build, also with a keyboard or a screen reader?",
      "Tell me about a design you pushed back on. What happened?",
    ],
    backend: [
      "Please introduce yourself and a system that you helped to run.",
      "Design a service that shortens links. Where will it break first?",
      "An endpoint that took fifty milliseconds now takes two seconds. What do you look at, and in which order?",
      "How do you change the schema of a database while the service stays up?",
      "Tell me about an incident you were part of. What did you change afterwards?",
    ],
    data: [
      "Please introduce yourself and a question that you answered with data.",
      "Your model does well in evaluation and badly in production. What could be the reasons?",
      "How do you know that the data you were given can be trusted?",
      "Explain overfitting to a product manager.",
      "Tell me about a result that surprised you. What did you do with it?",
    ],
  },
  ko: {
    general: [
      "간단한 자기소개와 개발자가 되기로 결심한 계기를 말씀해 주세요.",
      "가장 자랑스러운 프로젝트와 그 안에서 맡은 역할을 설명해 주세요.",
      "팀원과 의견이 달랐던 경험이 있나요? 어떻게 해결했는지 말씀해 주세요.",
      "최근에 새로 배운 것은 무엇이고, 어떻게 공부했나요?",
      "우리 회사에 지원한 이유는 무엇인가요?",
    ],
    frontend: [
      "간단한 자기소개와 가장 자신 있는 화면 개발 경험을 말씀해 주세요.",
      "사용자가 페이지가 느리다고 합니다. 원인을 어떻게 찾으시겠어요?",
      "애플리케이션의 상태를 어디에 둘지 어떤 기준으로 결정하나요?",
      "키보드나 화면 낭독기를 쓰는 사람도 서비스를 쓸 수 있도록 무엇을 하나요?",
      "디자인에 이견을 낸 경험이 있다면, 그 결과가 어땠는지 말씀해 주세요.",
    ],
    backend: [
      "간단한 자기소개와 운영에 참여했던 시스템을 소개해 주세요.",
      "URL 단축 서비스를 설계해 주세요. 어디가 가장 먼저 한계에 부딪힐까요?",
      "50ms 걸리던 API가 2초로 느려졌습니다. 무엇을 어떤 순서로 확인하시겠어요?",
      "서비스를 멈추지 않고 데이터베이스 스키마를 바꾸려면 어떻게 해야 하나요?",
      "직접 겪은 장애와 그 뒤에 바꾼 것을 말씀해 주세요.",
    ],
    data: [
      "간단한 자기소개와 데이터로 답을 찾았던 경험을 말씀해 주세요.",
      "평가에서는 성능이 좋은 모델이 실제 서비스에서는 좋지 않습니다. 어떤 이유가 있을까요?",
      "받은 데이터를 믿어도 되는지 어떻게 확인하나요?",
      "과적합을 기획자에게 설명해 보세요.",
      "예상과 달랐던 분석 결과와 그때 어떻게 했는지 말씀해 주세요.",
    ],
  },
};
