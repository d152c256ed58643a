// Positions in typed arrays, one index per device, as the server numbers them. Frames are decoded
// straight into them; nothing is allocated per position. Layout: crates/weir/src/console/fleet.rs.
import { signal } from "@preact/signals";
import { alertOf, clock, serverNow } from "./state";
import type { State } from "./types";

const HEAD_BYTES = 32;
const RECORD_BYTES = 24;
const POINT_BYTES = 20;
/** A device not heard of for this long is drawn as unknown. */
export const SILENT_MS = 30_000;
export const TRAIL_MS = 60_000;
const TRAIL_POINTS = 120;
const TRAIL_STEP_MS = TRAIL_MS / TRAIL_POINTS;
/** Trails are kept for as many devices as are drawn with marks. */
export const MARKS_MAX = 2_000;

export const STATES: State[] = ["ok", "warning", "critical", "info", "unknown"];

const words: Record<Exclude<State, "unknown">, string[]> = {
  ok: ["flying", "in_flight", "inflight", "airborne", "active", "moving", "online", "on_mission", "mission", "hovering", "working", "en_route", "takeoff", "taking_off", "running", "ok", "returning", "return_to_base", "returning_to_base", "landing"],
  info: ["idle", "ready", "standby", "landed", "docked", "parked", "charging", "maintenance", "on_ground"],
  // Turning home is routine; what made it turn home is an alert.
  warning: ["low_battery", "battery_low", "degraded", "holding"],
  critical: ["emergency", "emergency_landing", "fault", "failed", "error", "lost", "crashed", "breach"],
};
const stateOfWord = new Map(Object.entries(words).flatMap(([state, list]) => list.map((w) => [w, state as State])));

export class Trail {
  x = new Float64Array(TRAIL_POINTS);
  y = new Float64Array(TRAIL_POINTS);
  t = new Float64Array(TRAIL_POINTS);
  alt = new Float32Array(TRAIL_POINTS);
  /** Points ever written; the newest is at (count - 1) % TRAIL_POINTS. */
  count = 0;

  push(x: number, y: number, t: number, alt: number): void {
    const last = (this.count - 1) % TRAIL_POINTS;
    if (this.count > 0 && t - (this.t[last] as number) < TRAIL_STEP_MS) return;
    const at = this.count % TRAIL_POINTS;
    this.x[at] = x;
    this.y[at] = y;
    this.t[at] = t;
    this.alt[at] = alt;
    this.count += 1;
  }

  /** Indices from oldest to newest. */
  *order(): Generator<number> {
    for (let n = Math.max(0, this.count - TRAIL_POINTS); n < this.count; n += 1) yield n % TRAIL_POINTS;
  }
}

class Fleet {
  count = 0;
  ids: string[] = [];
  bySlot = new Map<string, number>();
  /** Web Mercator, 0 to 1. */
  x = new Float64Array(0);
  y = new Float64Array(0);
  lat = new Float64Array(0);
  lon = new Float64Array(0);
  alt = new Float32Array(0);
  heading = new Float32Array(0);
  speed = new Float32Array(0);
  battery = new Uint8Array(0);
  status = new Uint8Array(0);
  heard = new Float64Array(0);
  /** Index into STATES. */
  state = new Uint8Array(0);
  trails: (Trail | undefined)[] = [];
  statuses: string[] = [];
  private statusState: number[] = [];
  /** Grows with every frame. */
  version = 0;
  frames = 0;
  /** Append time of the oldest position not yet drawn; 0 = none. */
  undrawn_append_ms = 0;
  private greeted = false;

  setStatuses(names: string[]): void {
    this.statuses = names;
    this.statusState = names.map((name) => STATES.indexOf(stateOfWord.get(name.toLowerCase()) ?? "unknown"));
    this.refreshStates();
  }

  /** Takes a frame; false if it is not one of ours. */
  read(buffer: ArrayBuffer): boolean {
    if (buffer.byteLength < HEAD_BYTES) return false;
    const view = new DataView(buffer);
    if (view.getUint8(1) !== 1) return false;
    if (view.getUint8(0) === 2) return this.readTrails(view);
    if (view.getUint8(0) !== 1) return false;
    const names = view.getUint32(4, true);
    const records = view.getUint32(8, true);
    this.grow(view.getUint32(12, true));
    const sent_ms = view.getFloat64(16, true);
    const append_ms = view.getFloat64(24, true);
    // What lay there before this console came is not late.
    if (append_ms > 0 && this.greeted && (this.undrawn_append_ms === 0 || append_ms < this.undrawn_append_ms)) {
      this.undrawn_append_ms = append_ms;
    }
    let at = this.readNames(view, names);
    for (let n = 0; n < records; n += 1, at += RECORD_BYTES) this.readRecord(view, at, sent_ms);
    this.version += 1;
    this.frames += 1;
    this.greeted = true;
    return true;
  }

  /** The minute before this console came. */
  private readTrails(view: DataView): boolean {
    const points = view.getUint32(8, true);
    const sent_ms = view.getFloat64(16, true);
    const fresh = new Set<number>();
    for (let n = 0, at = HEAD_BYTES; n < points; n += 1, at += POINT_BYTES) {
      const slot = view.getUint32(at, true);
      if (!fresh.has(slot)) this.trails[slot] = new Trail();
      fresh.add(slot);
      const alt = view.getInt16(at + 16, true);
      this.trails[slot]?.push(
        mercatorX(view.getInt32(at + 8, true) / 1e7),
        mercatorY(view.getInt32(at + 4, true) / 1e7),
        sent_ms + view.getInt32(at + 12, true),
        alt === -32768 ? NaN : alt / 2,
      );
    }
    this.version += 1;
    return true;
  }

  private readNames(view: DataView, names: number): number {
    const utf8 = new TextDecoder();
    let at = HEAD_BYTES;
    for (let n = 0; n < names; n += 1) {
      const slot = view.getUint32(at, true);
      const length = view.getUint16(at + 4, true);
      const id = utf8.decode(new Uint8Array(view.buffer, at + 6, length));
      const old = this.ids[slot];
      if (old !== undefined) this.bySlot.delete(old);
      this.ids[slot] = id;
      this.bySlot.set(id, slot);
      this.trails[slot] = undefined;
      at += 6 + length;
    }
    return (at + 3) & ~3;
  }

  private readRecord(view: DataView, at: number, sent_ms: number): void {
    const slot = view.getUint32(at, true);
    const lat = view.getInt32(at + 4, true) / 1e7;
    const lon = view.getInt32(at + 8, true) / 1e7;
    const heard = sent_ms + view.getInt32(at + 12, true);
    const alt = view.getInt16(at + 16, true);
    const heading = view.getUint16(at + 18, true);
    const speed = view.getUint16(at + 20, true);
    this.lat[slot] = lat;
    this.lon[slot] = lon;
    const x = (this.x[slot] = mercatorX(lon));
    const y = (this.y[slot] = mercatorY(lat));
    this.heard[slot] = heard;
    this.alt[slot] = alt === -32768 ? NaN : alt / 2;
    this.heading[slot] = heading === 65535 ? NaN : heading / 100;
    this.speed[slot] = speed === 65535 ? NaN : speed / 100;
    this.battery[slot] = view.getUint8(at + 22);
    this.status[slot] = view.getUint8(at + 23);
    this.state[slot] = this.stateAt(slot, sent_ms);
    if (this.count <= MARKS_MAX) {
      (this.trails[slot] ??= new Trail()).push(x, y, heard, this.alt[slot] as number);
    }
  }

  private stateAt(slot: number, now_ms: number): number {
    if (now_ms - (this.heard[slot] as number) > SILENT_MS) return 4;
    const own = this.statusState[this.status[slot] as number] ?? 4;
    const level = alertOf.value.get(this.ids[slot] as string)?.level;
    if (level === "critical") return 2;
    if (level === "warning" && own !== 2) return 1;
    return own;
  }

  /** Silence and alerts change a state without a frame. */
  refreshStates(): void {
    const now = serverNow();
    let changed = false;
    for (let slot = 0; slot < this.count; slot += 1) {
      if (this.ids[slot] === undefined) continue;
      const state = this.stateAt(slot, now);
      if (state !== this.state[slot]) {
        this.state[slot] = state;
        changed = true;
      }
    }
    if (changed) this.version += 1;
  }

  statusName(slot: number): string {
    return this.statuses[this.status[slot] as number] ?? "";
  }

  private grow(total: number): void {
    this.count = Math.max(this.count, total);
    if (total <= this.x.length) return;
    const room = Math.max(64, total, this.x.length * 2);
    for (const name of ["x", "y", "lat", "lon", "heard"] as const) this[name] = wider(Float64Array, this[name], room);
    for (const name of ["alt", "heading", "speed"] as const) this[name] = wider(Float32Array, this[name], room);
    for (const name of ["battery", "status", "state"] as const) this[name] = wider(Uint8Array, this[name], room);
  }

  /** A new connection numbers devices anew. */
  reset(): void {
    this.count = 0;
    this.ids = [];
    this.bySlot.clear();
    this.trails = [];
    this.statuses = [];
    this.greeted = false;
    this.undrawn_append_ms = 0;
    this.version += 1;
  }
}

interface Arrays<T> {
  new (length: number): T;
}
function wider<T extends { set(from: T): void }>(make: Arrays<T>, old: T, room: number): T {
  const next = new make(room);
  next.set(old);
  return next;
}

export const mercatorX = (lon: number): number => (lon + 180) / 360;
export function mercatorY(lat: number): number {
  const sin = Math.sin((Math.max(-85, Math.min(85, lat)) * Math.PI) / 180);
  return 0.5 - Math.log((1 + sin) / (1 - sin)) / (4 * Math.PI);
}
export const lonOf = (x: number): number => x * 360 - 180;
export const latOf = (y: number): number => (Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) * 180) / Math.PI;

export const fleet = new Fleet();

/** Devices in each state, once a second. */
export const census = signal<{ total: number; states: number[] }>({ total: 0, states: [0, 0, 0, 0, 0] });
export function takeCensus(): void {
  fleet.refreshStates();
  const states = [0, 0, 0, 0, 0];
  let total = 0;
  for (let slot = 0; slot < fleet.count; slot += 1) {
    if (fleet.ids[slot] === undefined) continue;
    const state = fleet.state[slot] as number;
    states[state] = (states[state] as number) + 1;
    total += 1;
  }
  const old = census.peek();
  if (old.total !== total || states.some((n, at) => n !== old.states[at])) census.value = { total, states };
}

/** From Kafka's append to the drawn picture, the last 512 draws, ms. */
export const pixelLatencies: number[] = [];
export function drawn(): void {
  if (fleet.undrawn_append_ms === 0) return;
  pixelLatencies.push(Date.now() + clock.offset_ms - fleet.undrawn_append_ms);
  if (pixelLatencies.length > 512) pixelLatencies.shift();
  fleet.undrawn_append_ms = 0;
}
