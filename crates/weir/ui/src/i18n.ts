// Text in English and Chinese. `zh` is typed by the keys of `en`, so the compiler finds a missing
// key; words that come from the server are looked up at run time and recorded if unknown.
import { signal } from "@preact/signals";
import { en } from "./text/en";
import { zh } from "./text/zh";

export type Lang = "en" | "zh";
export type Key = keyof typeof en;
type Values = Record<string, string | number>;

const STORED = "weir.lang";
const texts: Record<Lang, Record<Key, string>> = { en, zh };

export const lang = signal<Lang>(first());
export const missing = new Set<string>();

function first(): Lang {
  const stored = localStorage.getItem(STORED);
  if (stored === "en" || stored === "zh") return stored;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export function setLang(next: Lang): void {
  lang.value = next;
  localStorage.setItem(STORED, next);
  mark();
}

export function mark(): void {
  document.documentElement.lang = lang.value === "zh" ? "zh-CN" : "en";
}

/** The text of `key`, with {name} replaced. Where n is 1 a key ending in `.one` wins. */
export function t(key: Key, values?: Values): string {
  const texts_ = texts[lang.value];
  const one = values?.["n"] === 1 ? texts_[`${key}.one` as Key] : undefined;
  const text = one ?? texts_[key];
  if (text === undefined) {
    missing.add(`${lang.value}:${key}`);
    return key;
  }
  return values ? text.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? "")) : text;
}

/** The word for something the server named (`status.flying`), or its own name. */
export function word(group: string, name: string): string {
  const text = texts[lang.value][`${group}.${name.toLowerCase()}` as Key];
  return text ?? name.replace(/_/g, " ");
}

/** Keys one dictionary has and the other lacks, for the test. */
export function unequal(): string[] {
  const holes = (from: object, to: object, name: string) =>
    Object.keys(from)
      .filter((key) => !(to as Record<string, string>)[key])
      .map((key) => `${name}:${key}`);
  return [...holes(en, zh, "zh"), ...holes(zh, en, "en")];
}
