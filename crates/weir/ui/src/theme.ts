// Light, dark, or what the system says. The canvas needs colours as numbers, so they are read from
// the style sheet, which stays the only place that defines them.
import { signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";
const STORED = "weir.theme";
const media = matchMedia("(prefers-color-scheme: dark)");

export const theme = signal<Theme>(first());
/** Grows with every change of colours; canvases watch it. */
export const colours = signal(0);

function first(): Theme {
  const stored = localStorage.getItem(STORED);
  return stored === "light" || stored === "dark" ? stored : "system";
}

export function applyTheme(): void {
  const root = document.documentElement;
  if (theme.value === "system") delete root.dataset["theme"];
  else root.dataset["theme"] = theme.value;
  cache.clear();
  colours.value += 1;
}

export function cycleTheme(): void {
  const dark = isDark();
  // The first press always changes something; the second returns to the system's choice.
  theme.value = theme.value === "system" ? (dark ? "light" : "dark") : "system";
  localStorage.setItem(STORED, theme.value);
  applyTheme();
}

export const isDark = (): boolean => (theme.value === "system" ? media.matches : theme.value === "dark");

media.addEventListener("change", applyTheme);

const cache = new Map<string, string>();
let probe: HTMLElement | undefined;

/** The colour behind a custom property such as "--ok", as rgb(). */
export function colour(name: string): string {
  let value = cache.get(name);
  if (value === undefined) {
    probe ??= document.body.appendChild(Object.assign(document.createElement("i"), { hidden: true }));
    probe.style.color = `var(${name})`;
    value = getComputedStyle(probe).color;
    cache.set(name, value);
  }
  return value;
}

export function rgb(name: string): [number, number, number] {
  const parts = colour(name).match(/[\d.]+/g)?.map(Number) ?? [];
  return [parts[0] ?? 0, parts[1] ?? 0, parts[2] ?? 0];
}

export function alpha(name: string, opacity: number): string {
  return `rgba(${rgb(name).join(",")},${opacity})`;
}
