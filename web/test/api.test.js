// HTTP: the requests, and which responses mean that the token is rejected.

import assert from "node:assert/strict";
import test, { afterEach } from "node:test";
import { createFetcher, whoAmI } from "../src/api.js";

const realFetch = globalThis.fetch;
const NOBODY = () => () => {}; // watches no run
let sent = [];

afterEach(() => {
  globalThis.fetch = realFetch;
  sent = [];
});

function answer(body, status = 200) {
  globalThis.fetch = async (...request) => {
    sent.push(request);
    return new Response(typeof body === "string" ? body : JSON.stringify(body), { status });
  };
}

async function ask(body, status) {
  answer(body, status);
  let refusals = 0;
  const params = { query: "{ viewer { permissions } }", variables: {}, operationName: undefined };
  const result = await createFetcher("secret", () => (refusals += 1), NOBODY)(params);
  return { result, refusals };
}

test("a query is one POST to /graphql with the token in its header", async () => {
  const { result, refusals } = await ask({ data: { viewer: null } });
  assert.deepEqual(result, { data: { viewer: null } });
  assert.equal(refusals, 0);
  const [[path, { method, headers, body }]] = sent;
  assert.deepEqual([path, method], ["/graphql", "POST"]);
  assert.equal(headers.Authorization, "Bearer secret");
  assert.equal(headers["Content-Type"], "application/json");
  assert.deepEqual(JSON.parse(body), { query: "{ viewer { permissions } }", variables: {} });
});

for (const [what, body, status, expected] of [
  ["an UNAUTHENTICATED error", { errors: [{ message: "x", extensions: { code: "UNAUTHENTICATED" } }] }, 200, 1],
  ["status 401", { errors: [{ message: "x" }] }, 401, 1],
  ["a FORBIDDEN error", { errors: [{ message: "x", extensions: { code: "FORBIDDEN" } }] }, 200, 0],
  ["an invalid query", { errors: [{ message: "x" }] }, 400, 0],
]) {
  test(`${what} ${expected ? "refuses" : "does not refuse"} the token`, async () => {
    assert.equal((await ask(body, status)).refusals, expected);
  });
}

for (const [what, query, operationName, expected] of [
  ["the name of another text gives way to that of the only operation", "query B { viewer { permissions } }", "A", "B"],
  ["a name that the text has is kept", "query A { a } query B { b }", "B", "B"],
  ["of several operations none is chosen", "query A { a } query B { b }", "C", "C"],
  ["an operation without a name needs none", "{ viewer { permissions } }", "A", undefined],
  ["a text that does not parse is sent as it is", "query {", "A", "A"],
]) {
  test(what, async () => {
    answer({ data: {} });
    await createFetcher("secret", assert.fail, NOBODY)({ query, operationName });
    const [[, { body }]] = sent;
    assert.deepEqual(JSON.parse(body), { query, ...(expected && { operationName: expected }) });
  });
}

test("a subscription uses the WebSocket, even with the operation name of another text", () => {
  answer({ data: {} });
  globalThis.location = { protocol: "http:", host: "127.0.0.1:8000" };
  const followed = createFetcher("secret", assert.fail, NOBODY)({ query: "subscription S { s }", operationName: "A" });
  assert.equal(typeof followed.subscribe, "function");
  assert.deepEqual(sent, []);
});

test("a run of a query clears the status of an earlier subscription, the introspection does not", async () => {
  answer({ data: {} });
  const statuses = [];
  const fetcher = createFetcher("secret", assert.fail, () => (status) => statuses.push(status));
  await fetcher({ query: "query IntrospectionQuery { __schema { types { name } } }", operationName: "IntrospectionQuery" });
  assert.deepEqual(statuses, []);
  await fetcher({ query: "{ viewer { permissions } }" });
  assert.deepEqual(statuses, [null]);
});

test("a response that is not JSON is shown as an error", async () => {
  const { result } = await ask("<h1>Bad Gateway</h1>", 502);
  assert.deepEqual(result, { errors: [{ message: "HTTP 502: <h1>Bad Gateway</h1>" }] });
});

test("whoAmI names the token's owner", async () => {
  answer({ data: { viewer: { token: { name: "first", role: "ADMIN" } } } });
  assert.deepEqual(await whoAmI("secret", assert.fail), { name: "first", role: "ADMIN" });
});

test("an unreachable server is reported, and does not reject the token", async () => {
  globalThis.location = { origin: "http://127.0.0.1:8000" };
  globalThis.fetch = async () => {
    throw new TypeError("Failed to fetch");
  };
  const message = "Ringback does not answer at http://127.0.0.1:8000. Is it running?";
  const fetcher = createFetcher("secret", assert.fail, NOBODY);
  assert.deepEqual(await fetcher({ query: "{ viewer { permissions } }" }), { errors: [{ message }] });
  assert.equal(await whoAmI("secret", assert.fail), null);
});

test("a token with characters that headers do not allow is rejected without being sent", async () => {
  answer({ data: {} });
  let refusals = 0;
  assert.equal(await whoAmI("whk_…", () => (refusals += 1)), null);
  assert.deepEqual([refusals, sent.length], [1, 0]);
});
