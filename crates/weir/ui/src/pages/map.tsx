import { useEffect, useRef, useState } from "preact/hooks";
import { commands } from "../commands";
import { STATES, census, fleet, takeCensus } from "../fleet";
import { ago, duration, exact, iso, latitude, longitude } from "../format";
import { t, word } from "../i18n";
import { MapView, mainMap } from "../map/view";
import { Bar, Command, Copy, Link, Mark, Panel, Teach, alertText, levelState } from "../parts/bits";
import { Table, type Column } from "../parts/table";
import { alerts, connection, second, serverNow, tasks } from "../state";
import type { DeviceEvent, State } from "../types";
import { param, setParams, withParams } from "../url";

export function MapPage() {
  const table = param("view") === "table";
  const device = param("device");
  return (
    <div class={device ? "map-page with-device" : "map-page"}>
      <div class="map-bar">
        <Find />
        <span class="census"><Census /></span>
        <span class="spring" />
        {!table && (
          <span class="buttons" role="group" aria-label={t("map.zoom")}>
            <button onClick={() => mainMap?.zoom(0.5)} aria-label={t("map.in")} title={`${t("map.in")} (+)`}>+</button>
            <button onClick={() => mainMap?.zoom(-0.5)} aria-label={t("map.out")} title={`${t("map.out")} (−)`}>−</button>
            <button onClick={() => mainMap?.fit()} title={`${t("map.fit")} (0)`}>{t("map.fit")}</button>
          </span>
        )}
        <span class="buttons" role="group" aria-label={t("map.view")}>
          <Link to={withParams({ view: "" })} class="button" current={!table}>{t("page.map")}</Link>
          <Link to={withParams({ view: "table" })} class="button" current={table}>{t("map.table")}</Link>
        </span>
      </div>
      <div class="map-body">
        {table ? <Devices /> : <MapView />}
        {!table && noDevices() && <div class="over"><NoDevices /></div>}
      </div>
      {device && <Device id={device} />}
    </div>
  );
}

/** The first frame comes a moment after the line is up; until then nothing is known. */
function noDevices(): boolean {
  const { state, since_ms } = connection.value;
  return census.value.total === 0 && state === "live" && second.value - since_ms > 1_500;
}

function NoDevices() {
  return (
    <Teach title={t("map.empty")} command={commands.location()}>
      {t("map.empty.how")} <code>{commands.demo()}</code>
    </Teach>
  );
}

function Census() {
  const { total, states } = census.value;
  if (total === 0 && !noDevices()) return null;
  return (
    <>
      <b>{t("map.devices", { n: total })}</b>
      {STATES.map((state, at) => (states[at] ?? 0) > 0 && (
        <span key={state}><Mark state={state} /> {exact(states[at] ?? 0)} {t(`device.${state}`)}</span>
      ))}
    </>
  );
}

/** `/` finds a device: type a part of its id, Enter takes the first. */
function Find() {
  const input = useRef<HTMLInputElement>(null);
  const [text, setText] = useState("");
  const found = text ? find(text) : [];
  useEffect(() => {
    if (param("find")) {
      input.current?.focus();
      setParams({ find: "" });
    }
  });
  const take = (id: string): void => {
    setParams({ device: id }, false);
    mainMap?.centre(id);
    setText("");
    input.current?.blur();
  };
  return (
    <div class="find">
      <input
        ref={input}
        id="find"
        type="search"
        value={text}
        placeholder={t("find")}
        aria-label={t("find")}
        autocomplete="off"
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter" && found[0]) take(found[0]);
          if (event.key === "Escape") {
            setText("");
            input.current?.blur();
          }
        }}
      />
      {text && (
        <ul class="found">
          {found.length === 0 && <li class="dim">{t("find.none")}</li>}
          {found.map((id) => (
            <li key={id}><button onClick={() => take(id)}><Mark state={stateOf(id)} /> {id}</button></li>
          ))}
        </ul>
      )}
    </div>
  );
}

function find(text: string): string[] {
  const wanted = text.toLowerCase();
  const out: string[] = [];
  for (const id of fleet.ids) {
    if (id?.toLowerCase().includes(wanted)) out.push(id);
    if (out.length >= 200) break;
  }
  // The id itself, then what begins so, then the rest.
  return out.sort((a, b) => a.toLowerCase().indexOf(wanted) - b.toLowerCase().indexOf(wanted) || a.length - b.length).slice(0, 8);
}

function stateOf(id: string): State {
  const slot = fleet.bySlot.get(id);
  return (slot === undefined ? undefined : STATES[fleet.state[slot] as number]) ?? "unknown";
}

const WORST = [2, 1, 4, 0, 3];

/** The map in words. */
function Devices() {
  void second.value;
  const now = serverNow();
  const rows: number[] = [];
  for (let slot = 0; slot < fleet.count; slot += 1) if (fleet.ids[slot] !== undefined) rows.push(slot);
  if (rows.length === 0) return noDevices() ? <NoDevices /> : null;
  const at = (array: ArrayLike<number>) => (slot: number) => array[slot] as number;
  const known = (value: number, text: string) => (Number.isNaN(value) ? "–" : text);
  const columns: Column<number>[] = [
    { id: "state", head: t("col.state"), sort: (s) => WORST.indexOf(fleet.state[s] as number), cell: (s) => <Mark state={STATES[fleet.state[s] as number] ?? "unknown"} /> },
    { id: "device", head: t("col.device"), sort: (s) => fleet.ids[s] as string, cell: (s) => <span class="id">{fleet.ids[s]}</span> },
    { id: "status", head: t("col.status"), sort: (s) => fleet.statusName(s), cell: (s) => word("status", fleet.statusName(s)), wide: true },
    { id: "battery", head: `${t("col.battery")} %`, number: true, sort: at(fleet.battery), cell: (s) => (fleet.battery[s] === 255 ? "–" : fleet.battery[s]) },
    { id: "altitude", head: `${t("col.altitude")} m`, number: true, sort: at(fleet.alt), cell: (s) => known(fleet.alt[s] as number, (fleet.alt[s] as number).toFixed(0)) },
    { id: "speed", head: `${t("col.speed")} m/s`, number: true, sort: at(fleet.speed), cell: (s) => known(fleet.speed[s] as number, (fleet.speed[s] as number).toFixed(1)) },
    { id: "heading", head: `${t("col.heading")} °`, number: true, sort: at(fleet.heading), cell: (s) => known(fleet.heading[s] as number, (fleet.heading[s] as number).toFixed(0).padStart(3, "0")) },
    { id: "lat", head: t("col.latitude"), number: true, sort: at(fleet.lat), cell: (s) => latitude(fleet.lat[s] as number, 5) },
    { id: "lon", head: t("col.longitude"), number: true, sort: at(fleet.lon), cell: (s) => longitude(fleet.lon[s] as number, 5) },
    { id: "age", head: t("col.heard"), number: true, sort: (s) => now - (fleet.heard[s] as number), cell: (s) => <time title={iso(fleet.heard[s] as number)}>{ago(now - (fleet.heard[s] as number))}</time> },
    { id: "copy", head: "", cell: (s) => <Copy command={commands.device(fleet.ids[s] as string)} /> },
  ];
  return (
    <Table label={t("map.table")} columns={columns} rows={rows} id={(slot) => fleet.ids[slot] as string} first="state"
      chosen={param("device")} onChoose={(id) => setParams({ device: id }, false)} />
  );
}

interface Past {
  id: string;
  /** ms and percent, one a second at most. */
  battery: [number, number][];
  /** ms and metres. */
  altitude: [number, number][];
}
const PAST_MS = 300_000;
const RETURN_PERCENT = 20;

/** The chosen device. */
function Device({ id }: { id: string }) {
  void second.value;
  const past = useRef<Past>({ id, battery: [], altitude: [] });
  if (past.current.id !== id) past.current = { id, battery: [], altitude: [] };
  const slot = fleet.bySlot.get(id);
  const close = (
    <button class="close" onClick={() => setParams({ device: "" }, false)} aria-label={t("close")} title={`${t("close")} (Esc)`}>×</button>
  );
  if (slot === undefined) {
    return <Panel title={id} class="device" more={close}><Teach title={t("device.none")} command={commands.device(id)} /></Panel>;
  }
  remember(past.current, slot);
  const age = serverNow() - (fleet.heard[slot] as number);
  const battery = fleet.battery[slot] as number;
  const number = (value: number, digits: number, unit: string) => (Number.isNaN(value) ? "–" : `${value.toFixed(digits)} ${unit}`);
  return (
    <Panel title={id} class="device" more={<><Copy command={commands.device(id)} />{close}</>}>
      <p class="status">
        <Mark state={stateOf(id)} /> <b>{word("status", fleet.statusName(slot)) || "–"}</b>
        <time title={iso(fleet.heard[slot] as number)}>{t("device.heard", { age: ago(age) })}</time>
      </p>
      <dl class="facts">
        <dt>{t("col.battery")}</dt>
        <dd>{battery === 255 ? "–" : <><Bar part={battery / 100} state={battery < 20 ? "warning" : "neutral"} /> {battery} %</>}</dd>
        <dt>{t("device.remaining")}</dt>
        <dd>{prediction(past.current.battery)}</dd>
        <dt>{t("col.altitude")}</dt>
        <dd>{number(fleet.alt[slot] as number, 1, "m")}</dd>
        <dt>{t("col.speed")}</dt>
        <dd>{number(fleet.speed[slot] as number, 1, "m/s")}</dd>
        <dt>{t("col.heading")}</dt>
        <dd>{number(fleet.heading[slot] as number, 0, "°")}</dd>
        <dt>{t("device.position")}</dt>
        <dd>{latitude(fleet.lat[slot] as number, 5)}<br />{longitude(fleet.lon[slot] as number, 5)}</dd>
      </dl>
      <Profile points={past.current.altitude} />
      <DeviceAlerts id={id} />
      <DeviceTask id={id} />
      <Events id={id} />
    </Panel>
  );
}

function remember(past: Past, slot: number): void {
  const now = fleet.heard[slot] as number;
  const alt = fleet.alt[slot] as number;
  if (past.altitude.length === 0) {
    // The trail knows the last minute already.
    const trail = fleet.trails[slot];
    if (trail) for (const at of trail.order()) past.altitude.push([trail.t[at] as number, trail.alt[at] as number]);
  }
  const last = past.altitude.at(-1)?.[0] ?? -Infinity;
  if (now > last && !Number.isNaN(alt)) past.altitude.push([now, alt]);
  if (now > (past.battery.at(-1)?.[0] ?? -Infinity) && fleet.battery[slot] !== 255) past.battery.push([now, fleet.battery[slot] as number]);
  for (const list of [past.altitude, past.battery]) while (list.length > 2 && now - (list[0]?.[0] ?? 0) > PAST_MS) list.shift();
}

/** When the battery reaches the mark at which drones turn home, at the pace of the last minutes. */
function prediction(past: [number, number][]): string {
  const [first, last] = [past[0], past.at(-1)];
  if (!first || !last) return "–";
  const [minutes, used] = [(last[0] - first[0]) / 60_000, first[1] - last[1]];
  if (last[1] <= RETURN_PERCENT) return t("device.return.now");
  // One step of the whole-number percentage is not a pace yet.
  if (used < 2 || minutes < 0.1) return used < 0 ? t("device.charging") : t("device.measuring");
  return t("device.return.in", { age: duration(((last[1] - RETURN_PERCENT) / used) * minutes * 60_000), percent: RETURN_PERCENT });
}

function Profile({ points }: { points: [number, number][] }) {
  const [width, height] = [296, 64];
  const first = points[0];
  const last = points.at(-1);
  if (!first || !last || points.length < 2) return null;
  const span = Math.max(60_000, last[0] - first[0]);
  const most = Math.max(10, ...points.map(([, alt]) => alt));
  const x = (ms: number) => width - ((last[0] - ms) / span) * width;
  const y = (alt: number) => height - 1 - (Math.max(0, alt) / most) * (height - 14);
  const line = points.map(([ms, alt], at) => `${at ? "L" : "M"}${x(ms).toFixed(1)} ${y(alt).toFixed(1)}`).join("");
  return (
    <figure class="profile">
      <figcaption>{t("device.profile")} <span class="dim">{duration(last[0] - first[0])} · {t("device.highest", { m: Math.round(most) })}</span></figcaption>
      <svg viewBox={`0 0 ${width} ${height}`} aria-hidden="true">
        <path class="area" d={`${line}L${width} ${height}L${x(first[0]).toFixed(1)} ${height}Z`} />
        <path d={line} />
      </svg>
    </figure>
  );
}

function DeviceAlerts({ id }: { id: string }) {
  const list = (alerts.value ?? []).filter((alert) => alert.device === id).slice(0, 4);
  if (list.length === 0) return null;
  return (
    <div class="sub">
      <h3>{t("page.alerts")}</h3>
      <ul class="lines">
        {list.map((alert) => (
          <li key={alert.id}>
            <Mark state={alert.cleared_ms === null ? levelState(alert.level) : "ok"} />
            <span class="text" title={alertText(alert)}>{alertText(alert)}</span>
            <time title={iso(alert.at_ms)}>{ago(serverNow() - alert.at_ms)}</time>
          </li>
        ))}
      </ul>
    </div>
  );
}

function DeviceTask({ id }: { id: string }) {
  const task = (tasks.value ?? []).find((held) => held.device === id);
  if (!task) return null;
  return (
    <div class="sub">
      <h3>{t("device.task")} <span class="id">{task.id}</span></h3>
      <p class="task"><Bar part={task.progress_percent / 100} state="neutral" /> {Math.round(task.progress_percent)} % · {task.current_step}</p>
    </div>
  );
}

function Events({ id }: { id: string }) {
  const [events, setEvents] = useState<DeviceEvent[]>([]);
  useEffect(() => {
    let current = true;
    const load = async (): Promise<void> => {
      // The banner speaks of a lost connection; the list just stays.
      const answer = await fetch(`/api/device?id=${encodeURIComponent(id)}`).catch(() => undefined);
      if (answer?.ok && current) setEvents(((await answer.json()) as { events: DeviceEvent[] }).events);
    };
    void load();
    const timer = setInterval(() => void load(), 1000);
    takeCensus();
    return () => {
      current = false;
      clearInterval(timer);
    };
  }, [id]);
  const latest = events[0];
  if (!latest) return null;
  return (
    <div class="sub">
      <h3>{t("device.events")}</h3>
      <ul class="lines events">
        {events.slice(0, 8).map((event) => (
          <li key={`${event.topic}${event.partition}:${event.offset}`}>
            <span class="text" title={`${event.topic}[${event.partition}] @ ${event.offset}`}>
              <span class="id">{event.event_type}</span> {event.summary && <span class="dim">{event.summary}</span>}
            </span>
            <Copy command={commands.record(event.topic, event.partition, event.offset)} />
            <time title={iso(event.at_ms)}>{ago(serverNow() - event.at_ms)}</time>
          </li>
        ))}
      </ul>
      <Command line={commands.tail(latest.topic)} />
    </div>
  );
}
