// Requests to Ringback: queries and mutations over HTTP, subscriptions over a WebSocket, all at one path and
// with the token of this tab.

import { getOperationAST, parse } from "graphql";
import { follow } from "./live.js";

const PATH = "/graphql";
const INTROSPECTION = "IntrospectionQuery"; // GraphiQL's own request
const UNAUTHENTICATED = "UNAUTHENTICATED";
const CAN_BE_SENT = /^[!-~]+$/; // characters allowed in a header; without this check a bad paste would look like a network error

/**
 * A GraphiQL fetcher for one token.
 *
 * Calls `onRefused` whenever the server rejects the token, and `watchRun` whenever an operation is run. `watchRun`
 * returns the function that gets the status of the subscription, or null for none.
 */
export function createFetcher(token, onRefused, watchRun) {
  return (asked) => {
    const { params, operation } = current(asked);
    if (operation?.operation === "subscription") {
      return follow({ url: socketUrl(), token, params, operation, onRefused, onStatus: watchRun() });
    }
    if (params.operationName !== INTROSPECTION) watchRun()(null);
    return post(params, token, onRefused);
  };
}

/** Returns the name of the token, or null if the server is unreachable or rejects the token. */
export async function whoAmI(token, onRefused) {
  if (!CAN_BE_SENT.test(token)) {
    onRefused();
    return null;
  }
  const answer = await post({ query: "{ viewer { token { name role } } }" }, token, onRefused);
  return answer.data?.viewer?.token ?? null; // the explorer shows errors that the token does not cause
}

// GraphiQL parses the text 100 ms after a change. A Run shortly after a change of tab still has the operation name
// of the previous text, so the name is used only if this text contains it.
function current(params) {
  let document;
  try {
    document = parse(params.query);
  } catch {
    return { params, operation: null }; // the server reports the position of the error
  }
  const named = getOperationAST(document, params.operationName);
  if (named) return { params, operation: named };
  const only = getOperationAST(document);
  return only ? { params: { ...params, operationName: only.name?.value }, operation: only } : { params, operation: null };
}

async function post(params, token, onRefused) {
  let response, text;
  try {
    response = await send(params, token);
    text = await response.text();
  } catch {
    return { errors: [{ message: `Ringback does not answer at ${location.origin}. Is it running?` }] };
  }
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

function send(params, token) {
  return fetch(PATH, {
    method: "POST",
    cache: "no-store",
    headers: {
      Accept: "application/graphql-response+json, application/json;q=0.9",
      Authorization: `Bearer ${token}`,
      "Content-Type": "application/json",
    },
    body: JSON.stringify(params),
  });
}

function socketUrl() {
  return `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}${PATH}`;
}
