// The state of everything in one sentence that a person could say aloud. The worst comes first.
import { computed } from "@preact/signals";
import { duration, latency, spoken } from "./format";
import { t } from "./i18n";
import { connection, drops, groups, heard, openAlerts, overview, second } from "./state";
import type { GroupRow, Overview, State } from "./types";

/** Figures older than this are old. */
export const STALE_MS = 5_000;
const BEHIND_MS = 60_000;
const LOSING_MS = 5_000;
const WAITING_MS = 1_000;

export interface Health {
  state: State;
  text: string;
}

export const health = computed<Health>(() => {
  const now = second.value;
  const link = connection.value;
  if (link.state === "connecting") return { state: "unknown", text: t("health.connecting") };
  if (link.state === "lost") return { state: "critical", text: t("health.lost", { age: duration(now - link.since_ms) }) };
  const figures = overview.value;
  if (!figures) return { state: "unknown", text: t("health.waiting") };
  const age = now - heard.overview_ms;
  if (age > STALE_MS) return { state: "warning", text: t("health.stale", { age: duration(age) }) };
  return ofKafka(figures) ?? ofGroups(groups.value ?? []) ?? ofTraffic(figures) ?? ofAlerts() ?? well(figures);
});

const waiting = (figures: Overview): number => figures.lanes.reduce((sum, lane) => sum + lane.depth, 0);

function ofKafka(figures: Overview): Health | undefined {
  if (figures.breaker !== "closed") {
    return { state: "critical", text: t("health.breaker", { n: spoken(waiting(figures) + figures.spilled) }) };
  }
  const lost = figures.dropped - (drops[0]?.dropped ?? figures.dropped);
  if (lost > 0) return { state: "critical", text: t("health.dropped", { n: spoken(lost) }) };
  return undefined;
}

function ofGroups(rows: GroupRow[]): Health | undefined {
  const late = rows
    .filter((row) => (row.lag_ms ?? 0) > (row.trend === "losing" ? LOSING_MS : BEHIND_MS))
    .sort((a, b) => (b.lag_ms ?? 0) - (a.lag_ms ?? 0))[0];
  if (!late) return undefined;
  const key = `health.group.${late.trend}` as const;
  return { state: "warning", text: t(key, { name: late.name, age: duration(late.lag_ms ?? 0) }) };
}

function ofTraffic(figures: Overview): Health | undefined {
  const oldest = Math.max(0, ...figures.lanes.map((lane) => lane.oldest_ms ?? 0));
  if (oldest > WAITING_MS) {
    const values = { n: spoken(waiting(figures)), age: duration(oldest) };
    return { state: "warning", text: t("health.waiting.events", values) };
  }
  if (figures.spilled > 0) return { state: "info", text: t("health.spilled", { n: spoken(figures.spilled) }) };
  return undefined;
}

function ofAlerts(): Health | undefined {
  const worst = openAlerts.value.filter((alert) => alert.level === "critical").length;
  return worst > 0 ? { state: "warning", text: t("health.alerts", { n: worst }) } : undefined;
}

function well(figures: Overview): Health {
  if (figures.in_per_s < 0.05 && figures.out_per_s < 0.05) return { state: "ok", text: t("health.quiet") };
  const values = { in: spoken(figures.in_per_s), out: spoken(figures.out_per_s), p99: latency(figures.p99_ms) };
  const n = waiting(figures);
  const rest = n === 0 ? t("health.nothing") : t("health.some", { n: spoken(n) });
  return { state: "ok", text: t("health.well", { ...values, rest }) };
}
