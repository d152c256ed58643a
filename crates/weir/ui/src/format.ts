// Numbers as an instrument shows them: three significant digits, SI suffix, unit. Exact values go
// into titles.
import { lang, t } from "./i18n";

/** 1204 -> "1.20 k", 12 -> "12", 3.14159 -> "3.14". The suffix stands apart so that a unit can follow it. */
export function si(value: number): string {
  const [digits, suffix] = scaled(value);
  return suffix ? `${digits} ${suffix}` : digits;
}

/** `si` with a unit behind its suffix: "1.20 k/s", "3.10 MB". */
export function withUnit(value: number, unit: string): string {
  const [digits, suffix] = scaled(value);
  return unit.startsWith("/") && !suffix ? `${digits}${unit}` : `${digits} ${suffix}${unit}`;
}

export const rate = (perSecond: number): string => withUnit(perSecond, "/s");
export const bytes = (count: number): string => withUnit(count, "B");

function scaled(value: number): [string, string] {
  if (!Number.isFinite(value)) return ["–", ""];
  const size = Math.abs(value);
  if (size < 999.5) return [Number.isInteger(value) ? String(value) : digits3(value), ""];
  const suffixes = ["k", "M", "G", "T", "P"];
  let [scale, at] = [1e3, 0];
  while (size >= 999.5 * scale && at < suffixes.length - 1) {
    scale *= 1e3;
    at += 1;
  }
  return [digits3(value / scale), suffixes[at] as string];
}

/** Three significant digits, never in exponents: 0.004 is "0.00". */
function digits3(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2);
}

/** All digits, grouped. */
export const exact = (value: number): string => new Intl.NumberFormat(lang.value).format(value);

/** "1,204" up to a million, which a sentence can carry; "1.20 M" above. */
export const spoken = (value: number): string =>
  Math.abs(value) < 1e6 ? exact(Math.abs(value) < 10 ? Math.round(value * 10) / 10 : Math.round(value)) : si(value);

/** A latency: "0.42 ms", "3.1 ms", "120 ms", then as a duration. */
export function latency(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return "–";
  if (ms >= 1000) return duration(ms);
  return `${ms < 10 ? ms.toFixed(ms < 1 ? 2 : 1) : Math.round(ms)} ms`;
}

/** As a person says it, two units at most: "12 s", "4 min 12 s", "3 h 5 min", "2 d 4 h". */
export function duration(ms: number): string {
  if (ms < 1000) return t("unit.ms", { n: Math.max(0, Math.round(ms)) });
  const s = Math.round(ms / 1000);
  if (s < 60) return t("unit.s", { n: s });
  if (s < 3600) return pair("unit.min", Math.floor(s / 60), "unit.s", s % 60);
  if (s < 86400) return pair("unit.h", Math.floor(s / 3600), "unit.min", Math.floor((s % 3600) / 60));
  return pair("unit.d", Math.floor(s / 86400), "unit.h", Math.floor((s % 86400) / 3600));
}

type Unit = "unit.s" | "unit.min" | "unit.h" | "unit.d";
function pair(big: Unit, n: number, small: Unit, m: number): string {
  return m ? `${t(big, { n })} ${t(small, { n: m })}` : t(big, { n });
}

/** One unit, for tables: "now", "12 s ago", "4 min ago". */
export function ago(ms: number): string {
  if (ms < 1000) return t("age.now");
  const s = Math.floor(ms / 1000);
  const what =
    s < 60
      ? t("unit.s", { n: s })
      : s < 3600
        ? t("unit.min", { n: Math.floor(s / 60) })
        : s < 86400
          ? t("unit.h", { n: Math.floor(s / 3600) })
          : t("unit.d", { n: Math.floor(s / 86400) });
  return t("age.ago", { what });
}

/** ISO time with milliseconds, UTC: what logs and tools say. */
export const iso = (ms: number): string => (Number.isFinite(ms) ? new Date(ms).toISOString() : "–");

export function latitude(lat: number, digits = 4): string {
  return `${Math.abs(lat).toFixed(digits)}° ${lat < 0 ? "S" : "N"}`;
}

export function longitude(lon: number, digits = 4): string {
  return `${Math.abs(lon).toFixed(digits)}° ${lon < 0 ? "W" : "E"}`;
}
