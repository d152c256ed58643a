// What the server says, as crates/weir/src/console/hub.rs serialises it.

import type { Lang } from "./i18n";

export type Level = "info" | "warning" | "critical";
export type State = "ok" | "warning" | "critical" | "info" | "unknown";

export interface Alert {
  id: string;
  kind: string;
  level: Level;
  message: string;
  message_en: string | null;
  message_zh: string | null;
  device: string | null;
  auto_action: string | null;
  at_ms: number;
  cleared_ms: number | null;
}

export interface Task {
  id: string;
  device: string;
  progress_percent: number;
  current_step: string;
  estimated_completion_ms: number | null;
  at_ms: number;
}

export interface Lane {
  name: string;
  depth: number;
  bytes: number;
  oldest_ms: number | null;
}

export interface Overview {
  in_per_s: number;
  out_per_s: number;
  p50_ms: number | null;
  p99_ms: number | null;
  p999_ms: number | null;
  lanes: Lane[];
  accepted: number;
  dropped: number;
  spilled: number;
  breaker: "closed" | "open" | "half_open";
}

export interface About {
  version: string;
  mode: "embedded" | "cluster";
  brokers: string[];
  gateway: string;
  durable: boolean;
  data_dir: string | null;
  rate_max_per_s: number | null;
  lane_events_max: number;
  loopback_only: boolean;
}

export interface TopicRow {
  name: string;
  partition_records: number[];
  bytes: number;
  per_s: number;
  retention_ms: number | null;
}

export interface GroupRow {
  name: string;
  state: string;
  members: number;
  lag: number;
  lag_ms: number | null;
  trend: "gaining" | "steady" | "losing";
}

export interface Layer {
  id: string;
  on: boolean;
  turn_on: string;
}

export interface Sample {
  at_ms: number;
  in_per_s: number;
  out_per_s: number;
  p50_ms: number | null;
  p99_ms: number | null;
  p999_ms: number | null;
  waiting: number;
}

export interface DeviceEvent {
  device: string;
  event_type: string;
  topic: string;
  partition: number;
  offset: number;
  at_ms: number;
  summary: string;
}

export interface Zone {
  name: Record<Lang, string>;
  /** Critical zones are no-fly; the others are notices. */
  critical: boolean;
  floor_m: number | null;
  ceiling_m: number | null;
  /** Rings of [lon, lat], filled by the even-odd rule. */
  rings: [number, number][][];
}

export type Frame =
  | {
      kind: "hello";
      now_ms: number;
      history: Sample[];
      topic_rates: Record<string, number[]>;
      group_lags: Record<string, number[]>;
    }
  | { kind: "beat"; now_ms: number }
  | { kind: "about"; at_ms: number; data: About | null }
  | { kind: "layers"; at_ms: number; data: Layer[] }
  | { kind: "statuses"; at_ms: number; data: string[] }
  | { kind: "zones"; at_ms: number; data: unknown }
  | { kind: "overview"; at_ms: number; data: Overview | null }
  | { kind: "alerts"; at_ms: number; data: Alert[] }
  | { kind: "tasks"; at_ms: number; data: Task[] }
  | { kind: "topics"; at_ms: number; data: TopicRow[] }
  | { kind: "groups"; at_ms: number; data: GroupRow[] };
