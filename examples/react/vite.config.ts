import { defineConfig } from "vite";

// The page's own server passes /v1 on, so page and service have one origin, and none is to be listed. Elsewhere list the
// page's in the service's `server.cors_origins`, and name the service in `src` of the element.
const service = process.env.MUSETALK_SERVICE_URL ?? "http://127.0.0.1:8001";
const proxy = { "/v1": { target: service, ws: true } };

export default defineConfig({
  server: { host: "127.0.0.1", proxy },
  preview: { host: "127.0.0.1", proxy },
});
