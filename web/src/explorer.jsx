// GraphiQL as Ringback serves it: with ready tabs, our name, and no way to keep a token by accident
// (no header editor, so nothing of it in GraphiQL's storage or history).

import { GraphiQL } from "graphiql";
import { useGraphiQL, useGraphiQLActions } from "@graphiql/react";
import { useEffect, useMemo } from "react";
import { createFetcher } from "./api.js";
import { lastTab, storage } from "./storage.js";
import { tabs } from "./tabs.js";
import { Wordmark } from "./wordmark.jsx";
import "./workers.js";
import "@graphiql/react/style.css";
import "@graphiql/plugin-doc-explorer/style.css";
import "@graphiql/plugin-history/style.css";
import "graphiql/graphiql.css";

// What the variables editor accepts for a scalar that it does not know.
const SCALARS = { JSON: { type: ["object", "array", "string", "number", "boolean"] } };

// The editor reports what it was still computing when it is taken down; that is no error.
addEventListener("unhandledrejection", (event) => {
  if (event.reason?.name === "Canceled") event.preventDefault();
});

export default function Explorer({ token, owner, onRefused, onLeave }) {
  const fetcher = useMemo(() => createFetcher(token, onRefused), [token, onRefused]);
  // Left alone, GraphiQL forgets the variables of a tab that was never edited.
  const first = useMemo(() => lastTab() ?? tabs[0], []);

  return (
    <GraphiQL
      fetcher={fetcher}
      storage={storage}
      defaultTabs={tabs}
      initialQuery={first.query ?? ""}
      initialVariables={first.variables ?? ""}
      defaultEditorToolsVisibility="variables"
      isHeadersEditorEnabled={false}
      shouldPersistHeaders={false}
      showPersistHeadersSettings={false}
      customScalarSchemas={SCALARS}
      inputValueDeprecation
      schemaDescription
    >
      <GraphiQL.Logo>
        <span className="corner">
          <FollowSystemTheme />
          <WrapLines />
          <StopOnLeave />
          <button type="button" className="leave" title={owner ? `${owner.name} (${owner.role})` : undefined} onClick={onLeave}>
            Change token
          </button>
          <Wordmark />
        </span>
      </GraphiQL.Logo>
    </GraphiQL>
  );
}

// The page's colours follow the system by CSS; the editor's are set by GraphiQL at start only.
function FollowSystemTheme() {
  const { setTheme } = useGraphiQLActions();
  const theme = useGraphiQL((state) => state.theme);
  useEffect(() => {
    if (theme !== null) return undefined;
    const system = matchMedia("(prefers-color-scheme: dark)");
    const follow = () => setTheme(null);
    system.addEventListener("change", follow);
    return () => system.removeEventListener("change", follow);
  }, [theme, setTheme]);
  return null;
}

// Templates and URLs are long, and the editors are narrow.
function WrapLines() {
  const { queryEditor, variableEditor } = useGraphiQL(({ queryEditor, variableEditor }) => ({ queryEditor, variableEditor }));
  useEffect(() => {
    for (const editor of [queryEditor, variableEditor]) editor?.updateOptions({ wordWrap: "on" });
  }, [queryEditor, variableEditor]);
  return null;
}

// A running subscription belongs to the token it was started with.
function StopOnLeave() {
  const { stop } = useGraphiQLActions();
  useEffect(() => stop, [stop]);
  return null;
}
