import assert from "node:assert/strict";
import { createServer } from "node:http";
import test from "node:test";

import { Server, ServerError, addressOf } from "../../../web/server.js";

/** A server on this machine that gives the answers it is told, one after the other; the last one again and again. */
async function answering(context, ...answers) {
  const asked = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const piece of request) body += piece;
    asked.push({ headers: request.headers, body });
    const [status, text, headers = {}] = answers[Math.min(asked.length, answers.length) - 1];
    response.writeHead(status, headers).end(text);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  context.after(() => server.close());
  return { url: `http://127.0.0.1:${server.address().port}/predictions/spoter`, asked };
}
const never = new AbortController().signal;
const failing = (code, rest = () => true) => (error) => error instanceof ServerError && error.code === code && rest(error);

test("an address is one that the page's policy lets it ask", () => {
  const page = "https://page.example/signs/index.html";
  assert.equal(addressOf("  ", page), "https://page.example/signs/predictions/spoter");
  assert.equal(addressOf("/x", "http://page.example:8000/"), "http://page.example:8000/x");
  for (const good of ["https://api.example/prod/predict", "http://127.0.0.1:9080/x", "http://localhost:9080/x"]) {
    assert.equal(addressOf(` ${good} `, page), good);
  }
  for (const bad of ["http://192.168.0.9/", "ftp://127.0.0.1/", "https://", "javascript:1"]) assert.equal(addressOf(bad, page), null);
});

test("what is asked arrives with its type, and a key only where one is given", async (context) => {
  const { url, asked } = await answering(context, [200, '{"instances": []}']);
  const { body, ms } = await new Server(url).ask("a,b", "text/csv", never);
  assert.deepEqual(body, { instances: [] });
  assert.ok(ms > 0);
  await new Server(url, { kind: "bearer", key: "secret" }).ask("{}", "application/json", never);
  await new Server(url, { kind: "x-api-key", key: "secret" }).ask("{}", "application/json", never);
  const [plain, bearer, key] = asked.map(({ headers }) => headers);
  assert.equal(plain["content-type"], "text/csv");
  assert.equal(asked[0].body, "a,b");
  assert.deepEqual([plain.authorization, plain["x-api-key"]], [undefined, undefined]);
  assert.equal(bearer.authorization, "Bearer secret");
  assert.equal(key["x-api-key"], "secret");
});

test("a busy server is asked again, three times in all", async (context) => {
  const busy = [503, '{"code": 503, "message": "busy"}', { "Retry-After": "0" }];
  let waits = 0;
  const waited = () => {
    waits += 1;
  };
  const recovering = await answering(context, busy, busy, [200, "{}"]);
  assert.deepEqual((await new Server(recovering.url).ask("{}", "application/json", never, waited)).body, {});
  assert.equal(waits, 2);
  const lasting = await answering(context, busy);
  await assert.rejects(new Server(lasting.url).ask("{}", "application/json", never), failing("server_busy"));
  assert.equal(lasting.asked.length, 3);
});

test("what the server refuses is said once, with its own words", async (context) => {
  const error = { code: "wrong_layout", message: "found 71", where: "layout" };
  const { url, asked } = await answering(context, [400, JSON.stringify({ error })]);
  const said = ({ server }) => server.code === error.code && server.message === error.message && server.where === "layout";
  await assert.rejects(new Server(url).ask("{}", "application/json", never), failing("server_refused", said));
  assert.equal(asked.length, 1);
});

test("landmarks do not follow a redirect", async (context) => {
  const elsewhere = await answering(context, [200, "{}"]);
  const { url } = await answering(context, [307, "", { Location: elsewhere.url }]);
  await assert.rejects(new Server(url).ask("{}", "application/json", never), failing("server_other"));
  assert.equal(elsewhere.asked.length, 0);
});

test("an answer that is no JSON, nobody there, and an end that was asked for", async (context) => {
  const { url } = await answering(context, [200, "<html>"]);
  await assert.rejects(new Server(url).ask("{}", "application/json", never), failing("server_other"));
  const stop = new AbortController();
  const busy = await answering(context, [503, "", { "Retry-After": "30" }]);
  const asking = new Server(busy.url).ask("{}", "application/json", stop.signal, () => setTimeout(() => stop.abort()));
  await assert.rejects(asking, failing("cancelled"));
  const gone = createServer();
  await new Promise((resolve) => gone.listen(0, "127.0.0.1", resolve));
  const { port } = gone.address();
  await new Promise((resolve) => gone.close(resolve));
  await assert.rejects(new Server(`http://127.0.0.1:${port}/`).ask("{}", "application/json", never), failing("server_down"));
});
