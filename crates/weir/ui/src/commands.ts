// The commands the console offers. Each does on a terminal what the page shows.
import { about } from "./state";

const brokers = (): string => about.value?.brokers.join(",") || "127.0.0.1:9092";
const gateway = (): string => about.value?.gateway || "http://127.0.0.1:8084";

/** Quotes a word for a POSIX shell if it needs it. */
function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replace(/'/g, "'\\''")}'`;
}

const post = (event: object): string => `curl -d ${quoted(JSON.stringify(event))} ${gateway()}/v1/events`;

export const commands = {
  demo: (): string => "weir up --demo",
  state: (): string => `curl -s ${location.origin}/api/state`,
  device: (id: string): string => `curl -s '${location.origin}/api/device?id=${encodeURIComponent(id)}'`,
  tail: (topic: string): string => `weir tail ${quoted(topic)} --brokers ${brokers()}`,
  find: (topic: string, text: string): string =>
    `weir tail ${quoted(topic)} --from-beginning --exit --json --brokers ${brokers()} | grep -F ${quoted(text)}`,
  record: (topic: string, partition: number, offset: number): string =>
    `kcat -b ${brokers()} -C -t ${quoted(topic)} -p ${partition} -o ${offset} -c 1`,
  topics: (): string => `weir topics --brokers ${brokers()}`,
  groups: (): string => `weir groups --brokers ${brokers()}`,
  consume: (topic: string): string => `kcat -b ${brokers()} -G my-group ${quoted(topic)}`,
  location: (): string =>
    post({
      type: "drone.location.updated",
      source: "me",
      data: { drone_id: 1, location: { latitude: 40.7128, longitude: -74.006, altitude: 100 } },
    }),
  heartbeat: (): string => post({ type: "drone.heartbeat", source: "me", data: { drone_id: 1 } }),
  alert: (): string =>
    post({
      type: "alert.created",
      source: "me",
      data: { alert_id: 1, type: "battery_low", level: "warning", message: "battery below 20 %", drone_id: 1 },
    }),
  task: (): string =>
    post({ type: "task.progress", source: "me", data: { task_id: 1, drone_id: 1, progress: 40, current_step: "waypoint 3" } }),
};
