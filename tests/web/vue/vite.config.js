import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vite";

const service = process.env.MUSESERVE_URL ?? "http://127.0.0.1:8001";
const proxy = { "/v1": { target: service, ws: true } };

export default defineConfig({
  plugins: [vue({ template: { compilerOptions: { isCustomElement: (tag) => tag === "avatar-player" } } })],
  optimizeDeps: { exclude: ["@museserve/avatar-player"] },
  server: { host: "127.0.0.1", proxy },
  preview: { host: "127.0.0.1", proxy },
});
