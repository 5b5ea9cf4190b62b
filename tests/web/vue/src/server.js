// The app as a server renders it: prints its markup.
import { createSSRApp } from "vue";
import { renderToString } from "vue/server-renderer";
import MockInterview from "@museserve/avatar-player/MockInterview.vue";
import { TTSManager } from "@museserve/avatar-player/tts.js";

const app = createSSRApp(MockInterview, { questions: ["Why do you write tests?"], language: "en", token: () => null });
console.log(await renderToString(app), typeof TTSManager);
