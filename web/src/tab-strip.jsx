// Keeps the open tab visible in the strip of tabs, which scrolls sideways.

import { useGraphiQL } from "@graphiql/react";
import { useEffect } from "react";

const PEEK = 24; // pixels of the neighbouring tab, to show that there is one

export function KeepTabInView() {
  const { tabs, activeTabIndex } = useGraphiQL(({ tabs, activeTabIndex }) => ({ tabs, activeTabIndex }));
  const titles = tabs.map(({ title }) => title).join("\n"); // a tab is as wide as its title

  useEffect(() => {
    const strip = document.querySelector(".graphiql-tabs");
    const show = () => scrollToTab(strip, strip.children[activeTabIndex]);
    const resizes = new ResizeObserver(show); // also calls `show` at once
    resizes.observe(strip);
    return () => resizes.disconnect();
  }, [activeTabIndex, titles]);

  // The strip has no scrollbar, and browsers scroll sideways by wheel only with Shift.
  useEffect(() => {
    const strip = document.querySelector(".graphiql-tabs");
    const scroll = ({ deltaY }) => (strip.scrollLeft += deltaY);
    strip.addEventListener("wheel", scroll, { passive: true });
    return () => strip.removeEventListener("wheel", scroll);
  }, []);

  return null;
}

// `scrollIntoView` would scroll the page too.
function scrollToTab(strip, tab) {
  if (!tab) return;
  const start = tab.offsetLeft - strip.firstElementChild.offsetLeft - PEEK;
  const end = start + tab.offsetWidth + 2 * PEEK;
  if (start < strip.scrollLeft) strip.scrollLeft = start;
  else if (end > strip.scrollLeft + strip.clientWidth) strip.scrollLeft = end - strip.clientWidth;
}
