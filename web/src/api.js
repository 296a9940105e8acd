// How the page talks to Ringback: queries and mutations over HTTP, subscriptions over a WebSocket,
// both on one path and both with the token of this tab.

import { getOperationAST, parse } from "graphql";
import { follow } from "./live.js";

const PATH = "/graphql";
const UNAUTHENTICATED = "UNAUTHENTICATED";
const CAN_BE_SENT = /^[!-~]+$/; // what a header may carry; a mangled paste is no network error

/**
 * A GraphiQL fetcher for one token.
 *
 * `onRefused` is called whenever the server says that it does not know the token.
 */
export function createFetcher(token, onRefused) {
  return (asked) => {
    const { params, operation } = current(asked);
    if (operation?.operation === "subscription") {
      return follow({ url: socketUrl(), token, params, operation, onRefused });
    }
    return post(params, token, onRefused);
  };
}

/** Asks whose token this is; null when the server did not say (it may be down, or refuse the token). */
export async function whoAmI(token, onRefused) {
  if (!CAN_BE_SENT.test(token)) {
    onRefused();
    return null;
  }
  try {
    const answer = await post({ query: "{ viewer { token { name role } } }" }, token, onRefused);
    return answer.data?.viewer?.token ?? null;
  } catch {
    return null; // not a matter of the token: the explorer shows what is wrong
  }
}

// GraphiQL looks for operations 100 ms after the text changed. A quick Run, just after a change of tab, still comes
// with the name from the text before, so the name counts only if this text has it.
function current(params) {
  let document;
  try {
    document = parse(params.query);
  } catch {
    return { params, operation: null }; // the server says where the mistake is
  }
  const named = getOperationAST(document, params.operationName);
  if (named) return { params, operation: named };
  const only = getOperationAST(document);
  return only ? { params: { ...params, operationName: only.name?.value }, operation: only } : { params, operation: null };
}

async function post(params, token, onRefused) {
  const response = await fetch(PATH, {
    method: "POST",
    cache: "no-store",
    headers: {
      Accept: "application/graphql-response+json, application/json;q=0.9",
      Authorization: `Bearer ${token}`,
      "Content-Type": "application/json",
    },
    body: JSON.stringify(params),
  });
  const text = await response.text();
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    answer = { errors: [{ message: `HTTP ${response.status}: ${text.slice(0, 500) || "an empty answer"}` }] };
  }
  const refused = answer.errors?.some?.((error) => error.extensions?.code === UNAUTHENTICATED);
  if (response.status === 401 || refused) onRefused();
  return answer;
}

function socketUrl() {
  return `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}${PATH}`;
}
