// Running subscriptions, with a scripted server in place of the WebSocket.

import assert from "node:assert/strict";
import test, { beforeEach } from "node:test";
import { parse } from "graphql";
import { follow, MessageList, withAfter } from "../src/live.js";

const RESUMABLE = "subscription S($after: String) { log(after: $after) { cursor } }";
const PLAIN = "subscription S { log { id } }";
const entry = (cursor) => ({ data: { log: { cursor } } });

// `serve` gets each connection, and responds with `say` and `close`.
let serve;
let connections;
let away; // the numbers of the connections that fail

class ScriptedSocket {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;
  readyState = ScriptedSocket.CONNECTING;
  heard = [];

  constructor(url, protocol) {
    Object.assign(this, { url, protocol });
    connections.push(this);
    setTimeout(() => {
      if (away.delete(connections.length)) {
        this.onerror?.({ type: "error" }); // like browsers: error first, then close
        this.close(1006);
        return;
      }
      this.readyState = ScriptedSocket.OPEN;
      this.onopen?.({});
    });
  }

  send(text) {
    const message = JSON.parse(text);
    this.heard.push(message);
    setTimeout(() => {
      if (message.type === "connection_init") this.say({ type: "connection_ack" });
      if (message.type === "subscribe") serve(this, message, connections.length);
    });
  }

  say(message) {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  close(code = 1000, reason = "") {
    if (this.readyState === ScriptedSocket.CLOSED) return;
    this.readyState = ScriptedSocket.CLOSED;
    setTimeout(() => this.onclose?.({ code, reason, wasClean: true }));
  }

  subscriptions() {
    return this.heard.filter(({ type }) => type === "subscribe").map(({ payload }) => payload.variables);
  }
}

beforeEach(() => {
  connections = [];
  away = new Set();
  globalThis.WebSocket = ScriptedSocket;
});

function run(query, until, onRefused = () => assert.fail("refused")) {
  const seen = { pictures: [], statuses: [], completed: 0 };
  return new Promise((resolve) => {
    const settle = () => setTimeout(() => resolve({ ...seen, subscription }), 20);
    const subscription = follow({
      url: "ws://ringback.test/graphql",
      token: "secret",
      params: { query, variables: { filter: null } },
      operation: parse(query).definitions[0],
      onRefused,
      onStatus: (status) => seen.statuses.push(status),
    }).subscribe({
      next: (picture) => {
        seen.pictures.push(picture);
        if (until?.(picture)) settle();
      },
      complete: () => {
        seen.completed += 1;
        if (!until) settle();
      },
      error: assert.fail,
    });
  });
}

test("the newest hundred messages are shown, newest first", () => {
  const list = new MessageList(parse(PLAIN).definitions[0]);
  for (let n = 1; n <= 150; n += 1) list.add(entry(String(n)));
  const { live, messages } = list.picture();
  assert.equal(messages.length, 100);
  assert.deepEqual([messages[0], messages[99]], [entry("150"), entry("51")]);
  assert.match(live, /^150 received, newest first/);
});

test("the token is sent in connection_init, and all messages are shown", async () => {
  serve = (socket, { id }) => {
    for (const n of ["1", "2", "3"]) socket.say({ id, type: "next", payload: entry(n) });
    socket.say({ id, type: "complete" });
  };
  const { pictures, completed } = await run(PLAIN);
  assert.deepEqual(connections[0].heard[0], { type: "connection_init", payload: { Authorization: "Bearer secret" } });
  assert.equal(connections[0].url, "ws://ringback.test/graphql");
  assert.equal(connections[0].protocol, "graphql-transport-ws");
  assert.deepEqual(pictures.at(-1), {
    live: "3 received, newest first. Ended by the server",
    messages: [entry("3"), entry("2"), entry("1")],
  });
  assert.equal(completed, 1);
});

test("a lost connection resumes after the last cursor, once the server is back", async () => {
  away.add(2);
  serve = (socket, { id }, nth) => {
    socket.say({ id, type: "next", payload: entry(String(nth)) });
    if (nth === 1) socket.close(1012);
  };
  const { pictures, subscription } = await run(RESUMABLE, ({ messages }) => messages.length === 2);
  subscription.unsubscribe();
  assert.deepEqual(connections.map((socket) => socket.subscriptions()), [[{ filter: null }], [], [{ filter: null, after: "1" }]]);
  assert.ok(pictures.some(({ live }) => live === "1 received, newest first. The connection is lost, trying again"));
  assert.equal(pictures.at(-2).live, "2 received, newest first");
});

test("a subscription that cannot resume says that entries may be missing", async () => {
  serve = (socket, { id }, nth) => {
    socket.say({ id, type: "next", payload: entry(String(nth)) });
    if (nth === 1) socket.close(1006);
  };
  const { pictures, subscription } = await run(PLAIN, ({ messages }) => messages.length === 2);
  subscription.unsubscribe();
  assert.deepEqual(connections[1].subscriptions(), [{ filter: null }]);
  assert.equal(pictures.at(-2).live, "2 received, newest first. What happened while the connection was lost is not here");
});

test("a subscriber that was too slow resumes after its last cursor", async () => {
  let times = 0;
  serve = (socket, { id }) => {
    times += 1;
    socket.say({ id, type: "next", payload: entry(String(times)) });
    if (times === 1) {
      socket.say({ id, type: "error", payload: [{ message: "Too slow.", extensions: { code: "CURSOR_BEHIND" } }] });
    }
  };
  const { pictures, completed, subscription } = await run(RESUMABLE, ({ messages }) => messages.length === 2);
  subscription.unsubscribe();
  assert.deepEqual(connections.flatMap((socket) => socket.subscriptions()), [{ filter: null }, { filter: null, after: "1" }]);
  assert.deepEqual(pictures.at(-1).messages, [entry("2"), entry("1")]);
  assert.equal(completed, 0);
});

test("any other error ends the list and is shown at its top", async () => {
  const errors = [{ message: "Too old.", extensions: { code: "CURSOR_EXPIRED" } }];
  serve = (socket, { id }) => {
    socket.say({ id, type: "next", payload: entry("1") });
    socket.say({ id, type: "error", payload: errors });
  };
  const { pictures, completed } = await run(RESUMABLE);
  assert.deepEqual(pictures.at(-1).messages, [{ errors }, entry("1")]);
  assert.match(pictures.at(-1).live, /Ended by an error$/);
  assert.equal(completed, 1);
  assert.equal(connections.length, 1);
});

for (const code of [4401, 4403]) {
  test(`a rejected token (${code}) is reported once and not tried again`, async () => {
    let refusals = 0;
    serve = (socket) => socket.close(code, "Forbidden");
    const { pictures } = await run(RESUMABLE, null, () => (refusals += 1));
    assert.equal(refusals, 1);
    assert.equal(connections.length, 1);
    assert.match(pictures.at(-1).live, new RegExp(`Closed by the server \\(${code} Forbidden\\)$`));
  });
}

test("Stop completes the operation, closes the socket and shows nothing more", async () => {
  serve = (socket, { id }) => socket.say({ id, type: "next", payload: entry("1") });
  const { pictures, subscription } = await run(PLAIN, ({ messages }) => messages.length === 1);
  subscription.unsubscribe();
  const shown = pictures.length;
  assert.equal(pictures.at(-1).live, "1 received, newest first. Stopped");
  connections[0].say({ id: connections[0].heard[1].id, type: "next", payload: entry("2") });
  await new Promise((resolve) => setTimeout(resolve, 150));
  assert.equal(pictures.length, shown);
  assert.deepEqual(connections[0].heard.map(({ type }) => type), ["connection_init", "subscribe", "complete"]);
  assert.equal(connections[0].readyState, ScriptedSocket.CLOSED);
});

const LOST = "The connection to the server is lost. Trying again.";

test("the status says that the connection is lost, until it is back", async () => {
  serve = (socket, { id }, nth) => {
    socket.say({ id, type: "next", payload: entry(String(nth)) });
    if (nth === 1) socket.close(1012);
  };
  const { statuses, subscription } = await run(RESUMABLE, ({ messages }) => messages.length === 2);
  const running = statuses.slice();
  subscription.unsubscribe();
  assert.deepEqual([...new Set(running.map((status) => status?.text ?? null))], [null, LOST]);
  assert.equal(running.at(-1), null);
});

test("the status warns of a gap when nothing tells where to go on", async () => {
  serve = (socket, _, nth) => {
    if (nth === 1) socket.close(1006);
  };
  const { statuses, subscription } = await run(PLAIN, ({ live }) => /lost/.test(live));
  subscription.unsubscribe();
  assert.ok(statuses.some((status) => status?.text === `${LOST} Entries from the time between are not shown.`));
});

test("a subscription that was stopped names its cursor and keeps what was not drawn yet", async () => {
  serve = (socket, { id }) => socket.say({ id, type: "next", payload: entry("1") });
  const { statuses, subscription } = await run(RESUMABLE, ({ messages }) => messages.length === 1);
  connections[0].say({ id: connections[0].heard[1].id, type: "next", payload: entry("2") });
  subscription.unsubscribe();
  assert.deepEqual(statuses.at(-1), {
    ended: true,
    text: "Stopped. A subscription runs only while its tab is open. Run it again from the cursor 2 to miss no entry.",
    after: "2",
    picture: { live: "2 received, newest first. Stopped", messages: [entry("2"), entry("1")] },
  });
});

for (const [what, finish, text] of [
  ["the server's end", (socket, id) => socket.say({ id, type: "complete" }), "Stopped. The server ended the subscription. Run it again to follow new entries."],
  ["the server's error", (socket, id) => socket.say({ id, type: "error", payload: [{ message: "Too old." }] }), "Stopped by an error. Too old."],
  ["a close for good", (socket) => socket.close(4400, "Bad"), "Stopped. The server closed the connection (4400 Bad). Run it again to follow new entries."],
]) {
  test(`the status gives ${what} as the reason`, async () => {
    serve = (socket, { id }) => finish(socket, id);
    const { statuses } = await run(PLAIN);
    assert.equal(statuses.at(-1).text, text);
    assert.equal(statuses.at(-1).ended, true);
    assert.equal(statuses.at(-1).after, null);
  });
}

for (const [what, text, expected] of [
  ["null", '{\n  // "after": a cursor\n  "filter": null,\n  "after": null\n}', '{\n  // "after": a cursor\n  "filter": null,\n  "after": "c$1"\n}'],
  ["an earlier cursor", '{ "filter": null, "after": "b" }', '{ "filter": null, "after": "c$1" }'],
  ["no key of that name", '{ "filter": null }', '{\n  "after": "c$1", "filter": null }'],
  ["an empty object", "{ }", '{\n  "after": "c$1"\n}\n'],
  ["no variables", "", '{\n  "after": "c$1"\n}\n'],
]) {
  test(`a cursor takes the place of ${what}`, () => assert.equal(withAfter(text, "c$1"), expected));
}
