import assert from "node:assert/strict";
import { createServer } from "node:http";
import test from "node:test";

import { Server, ServerError, urlOf } from "../../../web/server.js";

/** Start a server that sends the given responses in order, and then repeats the last one. */
async function serve(context, ...responses) {
  const requests = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    requests.push({ headers: request.headers, body });
    const [status, text, headers = {}] = responses[Math.min(requests.length, responses.length) - 1];
    response.writeHead(status, headers).end(text);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  context.after(() => server.close());
  return { url: `http://127.0.0.1:${server.address().port}/predictions/spoter`, requests };
}
const never = new AbortController().signal;
const failsWith = (code, check = () => true) => (error) => error instanceof ServerError && error.code === code && check(error);

test("urlOf accepts only addresses that the page's policy allows", () => {
  const page = "https://page.example/signs/index.html";
  assert.equal(urlOf("  ", page), "https://page.example/signs/predictions/spoter");
  assert.equal(urlOf("/x", "http://page.example:8000/"), "http://page.example:8000/x");
  for (const allowed of ["https://api.example/prod/predict", "http://127.0.0.1:9080/x", "http://localhost:9080/x"]) {
    assert.equal(urlOf(` ${allowed} `, page), allowed);
  }
  for (const forbidden of ["http://192.168.0.9/", "ftp://127.0.0.1/", "https://", "javascript:1"]) assert.equal(urlOf(forbidden, page), null);
});

test("a request has its content type, and a key only if one is set", async (context) => {
  const { url, requests } = await serve(context, [200, '{"instances": []}']);
  const { body, ms } = await new Server(url).send("a,b", "text/csv", never);
  assert.deepEqual(body, { instances: [] });
  assert.ok(ms > 0);
  await new Server(url, { kind: "bearer", key: "secret" }).send("{}", "application/json", never);
  await new Server(url, { kind: "x-api-key", key: "secret" }).send("{}", "application/json", never);
  const [plain, bearer, key] = requests.map(({ headers }) => headers);
  assert.equal(plain["content-type"], "text/csv");
  assert.equal(requests[0].body, "a,b");
  assert.deepEqual([plain.authorization, plain["x-api-key"]], [undefined, undefined]);
  assert.equal(bearer.authorization, "Bearer secret");
  assert.equal(key["x-api-key"], "secret");
});

test("a busy server is tried three times", async (context) => {
  const busy = [503, '{"code": 503, "message": "busy"}', { "Retry-After": "0" }];
  let waits = 0;
  const onBusy = () => {
    waits += 1;
  };
  const recovering = await serve(context, busy, busy, [200, "{}"]);
  assert.deepEqual((await new Server(recovering.url).send("{}", "application/json", never, onBusy)).body, {});
  assert.equal(waits, 2);
  const alwaysBusy = await serve(context, busy);
  await assert.rejects(new Server(alwaysBusy.url).send("{}", "application/json", never), failsWith("server_busy"));
  assert.equal(alwaysBusy.requests.length, 3);
});

test("a rejected request is not repeated, and keeps the server's error", async (context) => {
  const error = { code: "wrong_layout", message: "found 71", where: "layout" };
  const { url, requests } = await serve(context, [400, JSON.stringify({ error })]);
  const hasError = ({ server }) => server.code === error.code && server.message === error.message && server.where === "layout";
  await assert.rejects(new Server(url).send("{}", "application/json", never), failsWith("server_refused", hasError));
  assert.equal(requests.length, 1);
});

test("redirects are not followed", async (context) => {
  const target = await serve(context, [200, "{}"]);
  const { url } = await serve(context, [307, "", { Location: target.url }]);
  await assert.rejects(new Server(url).send("{}", "application/json", never), failsWith("server_other"));
  assert.equal(target.requests.length, 0);
});

test("errors for responses without JSON, canceled requests and refused connections", async (context) => {
  const { url } = await serve(context, [200, "<html>"]);
  await assert.rejects(new Server(url).send("{}", "application/json", never), failsWith("server_other"));
  const stop = new AbortController();
  const busy = await serve(context, [503, "", { "Retry-After": "30" }]);
  const pending = new Server(busy.url).send("{}", "application/json", stop.signal, () => setTimeout(() => stop.abort()));
  await assert.rejects(pending, failsWith("cancelled"));
  const closed = createServer();
  await new Promise((resolve) => closed.listen(0, "127.0.0.1", resolve));
  const { port } = closed.address();
  await new Promise((resolve) => closed.close(resolve));
  await assert.rejects(new Server(`http://127.0.0.1:${port}/`).send("{}", "application/json", never), failsWith("server_down"));
});
