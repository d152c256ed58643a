import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { App } from "./app";
import { fleet, pixelLatencies } from "./fleet";
import { lang, mark, missing, setLang, unequal } from "./i18n";
import { connect } from "./live";
import { maps } from "./map/view";
import { health } from "./health";
import { openAlerts } from "./state";
import { applyTheme, colour, theme } from "./theme";
import { go, page } from "./url";

mark();
applyTheme();
render(<App />, document.getElementById("app") as HTMLElement);
connect();

addEventListener("keydown", (event) => {
  const target = event.target as HTMLElement;
  const typing = target.matches?.("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const find = document.getElementById("find");
  if (find) find.focus();
  else go(`/map?find=1`);
});

// For the browser test: what is on the screen, in figures. Reads only, but for language and theme.
const quantile = (values: number[], part: number): number | null =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))] ?? null;
Object.assign(window, {
  __weir: {
    drawn: () => Math.max(0, ...[...maps].map((map) => map.shown)),
    dense: () => [...maps].some((map) => map.dense),
    draws: () => [...maps].reduce((sum, map) => sum + map.draws, 0),
    frames: () => fleet.frames,
    positions: () => Object.fromEntries(fleet.ids.map((id, slot) => [id, [fleet.lat[slot], fleet.lon[slot]]])),
    alerts: () => openAlerts.peek().map(({ id, kind, level, device }) => ({ id, kind, level, device })),
    health: () => health.peek(),
    latency: () => ({ n: pixelLatencies.length, p50_ms: quantile(pixelLatencies, 0.5), p99_ms: quantile(pixelLatencies, 0.99) }),
    latencyReset: () => void (pixelLatencies.length = 0),
    missing: () => [...missing, ...unequal()],
    view: () => [...maps].at(-1)?.view,
    colour,
    lang: () => lang.value,
    setLang,
    page: () => page.value,
    setTheme: (name: "system" | "light" | "dark") => {
      theme.value = name;
      applyTheme();
    },
  },
});
