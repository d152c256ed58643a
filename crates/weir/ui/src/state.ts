// Everything the server has said last, and the little history the lines need.
import { computed, signal } from "@preact/signals";
import type { About, Alert, GroupRow, Layer, Overview, Sample, Task, TopicRow, Zone } from "./types";

/** Points of a line: five minutes, one a second. */
export const HISTORY_MAX = 300;

const LINE_POINTS = 60;
const LINE_STEP_MS = 5_000;

class Lines {
  private byName = new Map<string, number[]>();
  private pushed_ms = 0;

  /** What the server remembers from before. */
  start(lines: Record<string, number[]>): void {
    this.byName = new Map(Object.entries(lines));
    this.pushed_ms = Date.now();
  }

  /** The last point is now, until it is five seconds old. */
  push(values: Iterable<readonly [string, number]>): void {
    const next = Date.now() - this.pushed_ms >= LINE_STEP_MS;
    if (next) this.pushed_ms = Date.now();
    for (const [name, value] of values) {
      const line = this.byName.get(name) ?? [];
      if (!next) line.pop();
      line.push(value);
      if (line.length > LINE_POINTS) line.shift();
      this.byName.set(name, line);
    }
  }

  get(name: string): number[] {
    return this.byName.get(name) ?? [];
  }
}

export type Connection = { state: "connecting" | "live" | "lost"; since_ms: number; attempts: number };

export const connection = signal<Connection>({ state: "connecting", since_ms: Date.now(), attempts: 0 });
export const about = signal<About | null>(null);
export const layers = signal<Layer[] | null>(null);
export const overview = signal<Overview | null>(null);
export const history = signal<Sample[]>([]);
export const alerts = signal<Alert[] | null>(null);
export const tasks = signal<Task[] | null>(null);
export const topics = signal<TopicRow[] | null>(null);
export const groups = signal<GroupRow[] | null>(null);
export const zones = signal<Zone[]>([]);
/** Five minutes, one point every five seconds. */
export const topicRates = new Lines();
export const groupLags = new Lines();
/** Dropped events by time, for "in the last minute". */
export const drops: { at_ms: number; dropped: number }[] = [];

/** When something arrived last, on this computer's clock; 0 = never. */
export const heard = { any_ms: 0, overview_ms: 0 };

/** Server's clock minus this computer's. Zero where both are the same machine. */
export const clock = { offset_ms: 0 };
const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
export function hearClock(server_ms: number): void {
  if (!local) clock.offset_ms = server_ms - Date.now();
}
export const serverNow = (): number => Date.now() + clock.offset_ms;

/** The time once a second and four times a second, for ages. */
export const second = signal(Date.now());
export const quarter = signal(Date.now());
setInterval(() => {
  quarter.value = Date.now();
  if (quarter.value - second.value >= 990) second.value = quarter.value;
}, 250);

const rank = { critical: 0, warning: 1, info: 2 };

/** Open alerts, worst first, then newest. */
export const openAlerts = computed(() =>
  (alerts.value ?? [])
    .filter((alert) => alert.cleared_ms === null)
    .sort((a, b) => rank[a.level] - rank[b.level] || b.at_ms - a.at_ms),
);

/** The worst open alert of each device. */
export const alertOf = computed(() => {
  const worst = new Map<string, Alert>();
  for (const alert of openAlerts.value) {
    if (alert.device !== null && !worst.has(alert.device)) worst.set(alert.device, alert);
  }
  return worst;
});

export function pushHistory(sample: Sample): void {
  const last = history.value.at(-1);
  if (last && sample.at_ms <= last.at_ms) return;
  history.value = [...history.value.slice(-(HISTORY_MAX - 1)), sample];
}

/** Whether a page's layer runs; unknown until the server has said so. */
export function layerState(id: string): { on: boolean; turn_on: string } | null {
  if (layers.value === null) return null;
  return layers.value.find((layer) => layer.id === id) ?? { on: false, turn_on: "" };
}
