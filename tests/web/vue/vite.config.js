import vue from "@vitejs/plugin-vue";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const service = process.env.MUSESERVE_URL ?? "http://127.0.0.1:8001";
const proxy = { "/v1": { target: service, ws: true } };

export default defineConfig({
  plugins: [vue({ template: { compilerOptions: { isCustomElement: (tag) => tag === "avatar-player" } } })],
  resolve: {
    alias: {
      "@museserve": fileURLToPath(new URL("../../../web", import.meta.url)),
      vue: fileURLToPath(new URL("./node_modules/vue", import.meta.url)), // the component lies outside this folder
    },
  },
  build: { outDir: process.env.OUT_DIR ?? "dist", emptyOutDir: true },
  server: { proxy, fs: { allow: ["../../.."] } },
  preview: { host: "127.0.0.1", proxy },
});
