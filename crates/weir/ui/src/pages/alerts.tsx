import { commands } from "../commands";
import { ago, duration, iso } from "../format";
import { t, word } from "../i18n";
import { Copy, Link, Mark, Teach, alertText, levelState } from "../parts/bits";
import { Table, type Column } from "../parts/table";
import { alerts, second, serverNow } from "../state";
import type { Alert } from "../types";
import { param, setParams, withParams } from "../url";

const RANK: Record<Alert["level"], number> = { critical: 0, warning: 1, info: 2 };

export function Alerts() {
  void second.value;
  const all = alerts.value ?? [];
  const show = param("show") || "open";
  const text = param("q").toLowerCase();
  const kept = all.filter((alert) => show === "all" || alert.cleared_ms === null);
  const rows = kept.filter((alert) => !text || `${alert.device ?? ""} ${alert.kind} ${alertText(alert)}`.toLowerCase().includes(text));
  const open = all.filter((alert) => alert.cleared_ms === null).length;
  return (
    <div class="page">
      <div class="tools">
        <h1>{t("page.alerts")}</h1>
        <span class="buttons" role="group" aria-label={t("alerts.show")}>
          <Link class="button" to={withParams({ show: "" })} current={show === "open"}>{t("alerts.open", { n: open })}</Link>
          <Link class="button" to={withParams({ show: "all" })} current={show === "all"}>{t("alerts.all", { n: all.length })}</Link>
        </span>
        <Filter />
        <span class="spring" />
        <Copy command={commands.tail("alert-events")} label={t("copy.command")} />
      </div>
      {rows.length > 0 ? (
        <Table label={t("page.alerts")} columns={columns()} rows={rows} id={(alert) => alert.id} first="level" />
      ) : (
        <Teach title={t(text ? "filter.none" : all.length ? "alerts.none.open" : "alerts.empty")} command={text ? "" : commands.alert()}>
          {text ? "" : t("alerts.empty.how")}
        </Teach>
      )}
    </div>
  );
}

export function Filter() {
  return (
    <input type="search" value={param("q")} placeholder={t("filter")} aria-label={t("filter")}
      onInput={(event) => setParams({ q: event.currentTarget.value })} />
  );
}

function columns(): Column<Alert>[] {
  const now = serverNow();
  return [
    {
      id: "level",
      head: t("col.level"),
      // The open ones first, the worst of them at the top, the newest of those.
      sort: (a) => (a.cleared_ms === null ? 0 : 1e15) + RANK[a.level] * 1e14 + (now - a.at_ms) / 1000,
      cell: (a) => <><Mark state={a.cleared_ms === null ? levelState(a.level) : "ok"} /> {a.cleared_ms === null ? t(`level.${a.level}`) : t("alert.cleared")}</>,
    },
    { id: "kind", head: t("col.kind"), sort: (a) => a.kind, cell: (a) => word("kind", a.kind) },
    {
      id: "device",
      head: t("col.device"),
      sort: (a) => a.device ?? "",
      cell: (a) => (a.device === null ? "–" : <Link class="id" to={`/map?device=${encodeURIComponent(a.device)}`}>{a.device}</Link>),
    },
    { id: "message", head: t("col.message"), wide: true, cell: (a) => <span title={alertText(a)}>{alertText(a)}</span> },
    { id: "action", head: t("col.action"), cell: (a) => (a.auto_action === null ? "–" : word("action", a.auto_action)) },
    { id: "raised", head: t("col.raised"), number: true, sort: (a) => now - a.at_ms, cell: (a) => <time title={iso(a.at_ms)}>{ago(now - a.at_ms)}</time> },
    {
      id: "held",
      head: t("col.held"),
      number: true,
      sort: (a) => (a.cleared_ms ?? now) - a.at_ms,
      cell: (a) => duration((a.cleared_ms ?? now) - a.at_ms),
    },
    { id: "copy", head: "", cell: (a) => <Copy command={commands.find("alert-events", a.id)} /> },
  ];
}
