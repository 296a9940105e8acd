// The token moves from the address bar into the session, and nowhere else.

import assert from "node:assert/strict";
import test, { beforeEach } from "node:test";

function memory() {
  const values = new Map();
  return {
    values,
    getItem: (key) => values.get(key) ?? null,
    setItem: (key, value) => values.set(key, value),
    removeItem: (key) => values.delete(key),
  };
}

beforeEach(() => {
  globalThis.sessionStorage = memory();
  globalThis.localStorage = memory();
});

function open(address) {
  const { pathname, search, hash } = new URL(address, "http://ringback.test");
  globalThis.location = { pathname, search, hash };
  globalThis.history = { state: null, shown: address, replaceState: (_state, _title, url) => (history.shown = url) };
}

const { currentToken, forgetToken, keepToken, takeTokenFromAddress } = await import("../src/token.js");

test("a token in the fragment moves to the session", () => {
  open("/graphql?a=1#token=rb_A-1.b~c%2Bd");
  assert.equal(takeTokenFromAddress(), true);
  assert.equal(history.shown, "/graphql?a=1");
  assert.equal(currentToken(), "rb_A-1.b~c+d");
  assert.deepEqual([...sessionStorage.values.values()], ["rb_A-1.b~c+d"]);
  assert.equal(localStorage.values.size, 0);
});

test("an empty token is removed from the address, and the session's token stays", () => {
  keepToken("before");
  open("/graphql#token=");
  assert.equal(takeTokenFromAddress(), false);
  assert.equal(history.shown, "/graphql");
  assert.equal(currentToken(), "before");
});

test("another fragment is unchanged", () => {
  open("/graphql#elsewhere");
  assert.equal(takeTokenFromAddress(), false);
  assert.equal(history.shown, "/graphql#elsewhere");
});

test("a deleted token is gone", () => {
  keepToken("secret");
  forgetToken();
  assert.equal(currentToken(), null);
  assert.equal(sessionStorage.values.size, 0);
});

test("if storage is refused the token stays in memory", () => {
  const refuse = () => {
    throw new Error("SecurityError");
  };
  globalThis.sessionStorage = { getItem: refuse, setItem: refuse, removeItem: refuse };
  keepToken("secret");
  assert.equal(currentToken(), "secret");
  forgetToken();
  assert.equal(currentToken(), null);
});
