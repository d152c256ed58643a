// The live connection: reconnects by itself, slower each time, and says how it stands.
import { fleet, takeCensus } from "./fleet";
import * as state from "./state";
import type { Frame, Zone } from "./types";

/** The server speaks at least once a second; this long without a word is a lost line. */
const SILENCE_MS = 4_000;
const RETRY_MS = [250, 500, 1000, 2000, 4000];

let socket: WebSocket | undefined;
let attempts = 0;

export function connect(): void {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const next = new WebSocket(`${scheme}://${location.host}/live`);
  next.binaryType = "arraybuffer";
  socket = next;
  let first = true;
  next.onmessage = (event: MessageEvent<string | ArrayBuffer>) => {
    if (socket !== next) return;
    if (first) {
      first = false;
      attempts = 0;
      fleet.reset();
      state.connection.value = { state: "live", since_ms: Date.now(), attempts: 0 };
    }
    state.heard.any_ms = Date.now();
    if (typeof event.data === "string") take(JSON.parse(event.data) as Frame);
    else if (fleet.read(event.data)) {
      if (fleet.frames === 1) takeCensus();
      notify();
      // Drawn with the next frame: the server may send the one after the next.
      requestAnimationFrame(() => next.readyState === WebSocket.OPEN && next.send("drawn"));
    }
  };
  next.onclose = () => {
    if (socket === next) lost();
  };
}

function lost(): void {
  socket = undefined;
  const before = state.connection.peek();
  const since_ms = before.state === "live" ? state.heard.any_ms || Date.now() : before.since_ms;
  attempts += 1;
  state.connection.value = { state: "lost", since_ms, attempts };
  setTimeout(connect, RETRY_MS[Math.min(attempts - 1, RETRY_MS.length - 1)]);
}

setInterval(() => {
  takeCensus();
  const silent = Date.now() - state.heard.any_ms > SILENCE_MS;
  if (silent && state.connection.peek().state === "live") {
    const dead = socket;
    lost();
    dead?.close();
  }
}, 1000);

const listeners = new Set<() => void>();
/** Calls `listener` after each frame of positions; returns what stops it. */
export function onPositions(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
function notify(): void {
  for (const listener of listeners) listener();
}

function take(frame: Frame): void {
  switch (frame.kind) {
    case "hello":
      state.hearClock(frame.now_ms);
      state.history.value = frame.history;
      state.topicRates.start(frame.topic_rates);
      state.groupLags.start(frame.group_lags);
      state.drops.length = 0;
      return;
    case "beat":
      state.hearClock(frame.now_ms);
      return;
    case "about":
      state.about.value = frame.data;
      return;
    case "layers":
      state.layers.value = frame.data;
      return;
    case "statuses":
      fleet.setStatuses(frame.data);
      return;
    case "zones":
      state.zones.value = zonesOf(frame.data);
      return;
    case "alerts":
      state.alerts.value = frame.data;
      fleet.refreshStates();
      notify();
      return;
    case "tasks":
      state.tasks.value = frame.data;
      return;
    case "topics":
      state.topicRates.push(frame.data.map((row) => [row.name, row.per_s] as const));
      state.topics.value = frame.data;
      return;
    case "groups":
      state.groupLags.push(frame.data.map((row) => [row.name, row.lag] as const));
      state.groups.value = frame.data;
      return;
    case "overview":
      takeOverview(frame);
      return;
  }
}

function takeOverview(frame: Extract<Frame, { kind: "overview" }>): void {
  const now = frame.data;
  // Before the figures, which make the health sentence anew at once.
  state.heard.overview_ms = Math.min(Date.now(), frame.at_ms - state.clock.offset_ms);
  state.overview.value = now;
  if (!now) return;
  state.drops.push({ at_ms: frame.at_ms, dropped: now.dropped });
  while (state.drops.length > 2 && frame.at_ms - (state.drops[0]?.at_ms ?? 0) > 60_000) state.drops.shift();
  state.pushHistory({
    at_ms: frame.at_ms,
    in_per_s: now.in_per_s,
    out_per_s: now.out_per_s,
    p50_ms: now.p50_ms,
    p99_ms: now.p99_ms,
    p999_ms: now.p999_ms,
    waiting: now.lanes.reduce((sum, lane) => sum + lane.depth, 0),
  });
}

interface Feature {
  properties?: Record<string, unknown> | null;
  geometry?: { type: string; coordinates: unknown } | null;
}

function zonesOf(geojson: unknown): Zone[] {
  const features = (geojson as { features?: Feature[] } | null)?.features ?? [];
  return features.flatMap((feature) => {
    const { geometry } = feature;
    const properties = feature.properties ?? {};
    const rings =
      geometry?.type === "Polygon"
        ? (geometry.coordinates as Zone["rings"])
        : geometry?.type === "MultiPolygon"
          ? (geometry.coordinates as Zone["rings"][]).flat()
          : [];
    if (rings.length === 0) return [];
    return [
      {
        name: nameOf(properties["name"] ?? properties["id"]),
        critical: properties["severity"] === "critical" || (properties["severity"] === undefined && properties["kind"] !== "notice"),
        floor_m: number(properties["lower_m"] ?? properties["lower"]),
        ceiling_m: number(properties["upper_m"] ?? properties["upper"]),
        rings,
      },
    ];
  });
}

const number = (value: unknown): number | null => (typeof value === "number" ? value : null);

/** A name is a text, or a text in each language. */
function nameOf(value: unknown): Zone["name"] {
  if (typeof value === "object" && value !== null) {
    const { zh, en } = value as { zh?: string; en?: string };
    return { zh: zh ?? en ?? "", en: en ?? zh ?? "" };
  }
  const name = value === undefined || value === null ? "" : String(value);
  return { zh: name, en: name };
}
