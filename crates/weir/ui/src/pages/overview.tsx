import { useMemo } from "preact/hooks";
import { commands } from "../commands";
import { ago, bytes, duration, exact, iso, latency, rate, si } from "../format";
import { t, word } from "../i18n";
import { MapView } from "../map/view";
import { Bar, Link, Mark, Panel, Spark, Teach, alertText, levelState } from "../parts/bits";
import { Chart, type Line } from "../parts/chart";
import { about, alerts, groups, history, layerState, openAlerts, overview, second, serverNow, topicRates, topics } from "../state";
import type { Alert, GroupRow, Lane, State } from "../types";

const ALERTS_SHOWN = 5;
const TOPICS_SHOWN = 8;

export function Overview() {
  return (
    <div class="overview">
      <Figures />
      <Lanes />
      <AlertsPanel />
      <Panel title={t("page.map")} class="at-map" more={<Link to="/map">{t("open")}</Link>}>
        {layerState("fleet")?.on === false ? <Teach title={t("layer.off", { name: "fleet" })} /> : <MapView small />}
      </Panel>
      <Behind />
      <ByRate />
      <Lines />
    </div>
  );
}

function Figures() {
  const now = overview.value;
  const past = history.value;
  const line = <K extends "in_per_s" | "out_per_s" | "p99_ms" | "waiting">(name: K) => past.map((sample) => sample[name]);
  const waiting = now?.lanes.reduce((sum, lane) => sum + lane.depth, 0) ?? 0;
  return (
    <div class="figures" role="group" aria-label={t("figures")}>
      <Figure name={t("figure.in")} value={now && rate(now.in_per_s)} exact={now && `${exact(now.in_per_s)} /s`} values={line("in_per_s")} />
      <Figure name={t("figure.out")} value={now && rate(now.out_per_s)} exact={now && `${exact(now.out_per_s)} /s`} values={line("out_per_s")} />
      <Figure name="p99" value={now && latency(now.p99_ms)} exact={now && t("figure.p99.title")} values={line("p99_ms")} />
      <Figure name={t("figure.waiting")} value={now && si(waiting)} exact={exact(waiting)} values={line("waiting")} state={waiting > 1000 ? "warning" : undefined} />
      <Figure name={t("figure.spilled")} value={now && si(now.spilled)} exact={now && exact(now.spilled)} state={now && now.spilled > 0 ? "info" : undefined} />
      <Figure name={t("figure.dropped")} value={now && si(now.dropped)} exact={now && exact(now.dropped)} state={now && now.dropped > 0 ? "critical" : undefined} />
    </div>
  );
}

function Figure(props: { name: string; value: string | null; exact: string | null; values?: (number | null)[]; state?: State | undefined }) {
  return (
    <div class="figure" title={props.exact ?? ""}>
      <span class="name">{props.name}</span>
      <span class={`value ${props.state ?? ""}`}>
        {props.state && <Mark state={props.state} />}
        {props.value ?? "–"}
      </span>
      {props.values && <Spark values={props.values} per={5} />}
    </div>
  );
}

function Lanes() {
  const now = overview.value;
  const facts = about.value;
  const room = facts?.lane_events_max ?? 10_000;
  const breaker: State = !now ? "unknown" : now.breaker === "closed" ? "ok" : now.breaker === "open" ? "critical" : "warning";
  const notes = facts && [
    facts.rate_max_per_s === null ? t("limits.none") : t("limits.rate", { rate: rate(facts.rate_max_per_s) }),
    t("limits.lane", { n: exact(facts.lane_events_max) }),
    facts.mode === "cluster" ? t("durable.cluster") : facts.durable ? t("durable.yes") : t("durable.no"),
  ];
  return (
    <Panel title={t("lanes")} class="at-lanes" more={<span><Mark state={breaker} /> {t(`breaker.${now?.breaker ?? "unknown"}`)}</span>}>
      <table class="lanes" aria-label={t("lanes")}>
        <tbody>{(now?.lanes ?? []).map((lane) => <LaneRow key={lane.name} lane={lane} room={room} />)}</tbody>
      </table>
      {!now && <Teach title={t("health.waiting")} />}
      {notes && <p class="note">{notes.join(" · ")}</p>}
    </Panel>
  );
}

function LaneRow({ lane, room }: { lane: Lane; room: number }) {
  const part = lane.depth / Math.max(1, room);
  const state: State | "neutral" = part > 0.9 ? "critical" : part > 0.5 ? "warning" : "neutral";
  return (
    <tr title={`${exact(lane.depth)} / ${exact(room)} · ${bytes(lane.bytes)}`}>
      <th scope="row">{word("lane", lane.name)}</th>
      <td class="wide"><Bar part={lane.depth > 0 ? Math.max(0.006, part) : 0} state={state} /></td>
      <td class="number">{si(lane.depth)}</td>
      <td class="number dim">{lane.depth > 0 ? bytes(lane.bytes) : "–"}</td>
      <td class="number">{latency(lane.oldest_ms)}</td>
    </tr>
  );
}

function AlertsPanel() {
  void second.value;
  const open = openAlerts.value;
  const rest = open.length - ALERTS_SHOWN;
  return (
    <Panel title={t("page.alerts")} class="at-alerts" more={<Link to="/alerts">{rest > 0 ? t("alerts.more", { n: rest }) : t("open")}</Link>}>
      {open.length === 0 ? (
        <LastCleared />
      ) : (
        <ul class="lines">{[...open, ...cleared()].slice(0, ALERTS_SHOWN).map((alert) => <AlertLine key={alert.id} alert={alert} />)}</ul>
      )}
    </Panel>
  );
}

const cleared = (): Alert[] => (alerts.value ?? []).filter((alert) => alert.cleared_ms !== null);

/** Nothing open: say so, and show what was last, since that is what one looks for. */
function LastCleared() {
  const last = cleared().slice(0, ALERTS_SHOWN - 1);
  return (
    <>
      <p class="quiet">{t("alerts.none.open")}</p>
      {last.length > 0 && <ul class="lines">{last.map((alert) => <AlertLine key={alert.id} alert={alert} />)}</ul>}
    </>
  );
}

/** Whether a text names the device already. */
function says(text: string, device: string): boolean {
  const at = text.indexOf(device);
  const digit = (c: string | undefined) => c !== undefined && /[0-9a-z]/i.test(c);
  return at >= 0 && !digit(text[at - 1]) && !digit(text[at + device.length]);
}

function AlertLine({ alert }: { alert: Alert }) {
  const text = alertText(alert);
  const body = (
    <>
      {alert.device !== null && !says(text, alert.device) && <b class="id">{alert.device}</b>} {text}
    </>
  );
  return (
    <li class={alert.cleared_ms === null ? "" : "past"}>
      <Mark state={alert.cleared_ms === null ? levelState(alert.level) : "ok"} />
      <span class="text" title={text}>
        {alert.device !== null ? <Link to={`/map?device=${encodeURIComponent(alert.device)}`}>{body}</Link> : body}
      </span>
      <time title={iso(alert.at_ms)}>{ago(serverNow() - alert.at_ms)}</time>
    </li>
  );
}

const behindState = (row: GroupRow): State => (row.trend === "losing" ? "warning" : (row.lag_ms ?? 0) > 60_000 ? "info" : "ok");

function Behind() {
  const rows = [...(groups.value ?? [])].sort((a, b) => (b.lag_ms ?? 0) - (a.lag_ms ?? 0) || b.lag - a.lag);
  const late = rows.filter((row) => (row.lag_ms ?? 0) > 1000 || (row.trend === "losing" && row.lag > 0));
  const slowest = rows[0];
  return (
    <Panel title={t("groups.behind")} class="at-behind" more={<Link to="/groups">{t("open")}</Link>}>
      {late.length === 0 ? (
        <p class="quiet">
          {slowestText(slowest, rows.length)}
        </p>
      ) : (
        <ul class="lines">
          {late.slice(0, 3).map((row) => (
            <li key={row.name}>
              <Mark state={behindState(row)} />
              <span class="text"><b class="id">{row.name}</b> {t(`trend.${row.trend}`)}</span>
              <span class="number" title={exact(row.lag)}>{t("groups.lag", { n: si(row.lag) })}</span>
              <time>{row.lag_ms === null ? "–" : duration(row.lag_ms)}</time>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}

function slowestText(slowest: GroupRow | undefined, groups: number): string {
  if (!slowest) return t("groups.none");
  if (slowest.lag === 0) return t("groups.all.current", { n: groups });
  const { name, lag, lag_ms } = slowest;
  return lag_ms === null
    ? t("groups.slowest.records", { name, n: exact(lag) })
    : t("groups.slowest", { name, age: duration(lag_ms) });
}

function ByRate() {
  const rows = [...(topics.value ?? [])].sort((a, b) => b.per_s - a.per_s || a.name.localeCompare(b.name));
  const most = Math.max(1e-9, ...rows.map((row) => row.per_s));
  return (
    <Panel title={t("topics.by.rate")} class="at-topics" more={<Link to="/topics">{t("open")}</Link>}>
      {rows.length === 0 ? (
        <Teach title={t("topics.empty")} command={commands.heartbeat()} />
      ) : (
        <table class="rates" aria-label={t("topics.by.rate")}>
          <tbody>
            {rows.slice(0, TOPICS_SHOWN).map((row) => (
              <tr key={row.name}>
                <th scope="row"><Link class="id" to={`/topics?topic=${encodeURIComponent(row.name)}`}>{row.name}</Link></th>
                <td class="wide"><Bar part={row.per_s / most} state="neutral" /></td>
                <td><Spark values={topicRates.get(row.name)} width={60} height={16} /></td>
                <td class="number" title={exact(row.per_s)}>{rate(row.per_s)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}

function Lines() {
  const past = history.value;
  const times = useMemo(() => past.map((sample) => sample.at_ms / 1000), [past]);
  const flow = useMemo<Line[]>(
    () => [
      { name: t("figure.in"), values: past.map((s) => s.in_per_s), colour: "--accent" },
      { name: t("figure.out"), values: past.map((s) => s.out_per_s), colour: "--text2", dash: [4, 3] },
    ],
    [past, t("figure.in")],
  );
  const delay = useMemo<Line[]>(
    () => [
      { name: "p50", values: past.map((s) => s.p50_ms), colour: "--accent" },
      { name: "p99", values: past.map((s) => s.p99_ms), colour: "--accent", fan: true },
      { name: "p99.9", values: past.map((s) => s.p999_ms), colour: "--dim", fan: true },
    ],
    [past],
  );
  return (
    <>
      <Panel title={t("chart.flow")} class="at-flow">
        <Chart label={t("chart.flow")} times={times} lines={flow} format={rate} height={132} cursor="overview" span={300} />
      </Panel>
      <Panel title={t("chart.latency")} class="at-latency">
        <Chart label={t("chart.latency")} times={times} lines={delay} format={latency} height={132} cursor="overview" span={300} />
      </Panel>
    </>
  );
}
