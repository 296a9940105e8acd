// The page: the explorer if there is a token, otherwise a form to enter one.

import { lazy, Suspense, useCallback, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { whoAmI } from "./api.js";
import { currentToken, forgetToken, keepToken, takeTokenFromAddress } from "./token.js";
import { TokenForm } from "./token-form.jsx";
import "./page.css";

takeTokenFromAddress(); // before other code can read the address

const loadExplorer = () => import("./explorer.jsx").catch(() => ({ default: NotLoaded }));
const Explorer = lazy(loadExplorer);
const REFUSED = "Ringback does not know this token. It may have been revoked, or have expired.";

function Page() {
  const [token, setToken] = useState(currentToken);
  const [owner, setOwner] = useState(undefined); // undefined until the server has responded
  const [problem, setProblem] = useState(null);

  const enter = useCallback((next) => {
    keepToken(next);
    setProblem(null);
    setToken(next);
  }, []);
  const leave = useCallback((reason) => {
    forgetToken();
    setProblem(reason);
    setToken(null);
  }, []);
  const refuse = useCallback(() => {
    if (currentToken() === token) leave(REFUSED); // otherwise a late response for a previous token
  }, [token, leave]);

  // Opening a link in a tab that already shows this page changes only the fragment.
  useEffect(() => {
    const look = () => takeTokenFromAddress() && enter(currentToken());
    addEventListener("hashchange", look);
    return () => removeEventListener("hashchange", look);
  }, [enter]);

  useEffect(() => {
    if (!token) return undefined;
    let current = true;
    loadExplorer(); // while the server checks the token
    whoAmI(token, refuse).then((answer) => current && setOwner(answer));
    return () => {
      current = false;
      setOwner(undefined);
    };
  }, [token, refuse]);

  if (!token) return <TokenForm problem={problem} onToken={enter} />;
  if (owner === undefined) return <Loading />;
  return (
    <Suspense fallback={<Loading />}>
      <Explorer key={token} token={token} owner={owner} onRefused={refuse} onLeave={() => leave(null)} />
    </Suspense>
  );
}

function Loading() {
  return (
    <p className="notice" role="status">
      Loading Ringback…
    </p>
  );
}

function NotLoaded() {
  return (
    <p className="notice" role="alert">
      The explorer could not be loaded. Is the server running? Reload the page to try again.
    </p>
  );
}

createRoot(document.getElementById("page")).render(<Page />);
