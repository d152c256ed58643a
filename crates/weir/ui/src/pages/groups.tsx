import { commands } from "../commands";
import { duration, exact, si } from "../format";
import { t, word } from "../i18n";
import { Copy, Mark, Spark, Teach } from "../parts/bits";
import { Table, type Column } from "../parts/table";
import { groupLags, groups } from "../state";
import type { GroupRow, State } from "../types";
import { param } from "../url";
import { Filter } from "./alerts";

export function Groups() {
  const all = groups.value ?? [];
  const text = param("q").toLowerCase();
  const rows = all.filter((row) => !text || row.name.toLowerCase().includes(text));
  return (
    <div class="page">
      <div class="tools">
        <h1>{t("page.groups")}</h1>
        <Filter />
        <span class="spring" />
        <Copy command={commands.groups()} label={t("copy.command")} />
      </div>
      {rows.length > 0 ? (
        <Table label={t("page.groups")} columns={columns()} rows={rows} id={(row) => row.name} first="-late" />
      ) : (
        <Teach title={t(text ? "filter.none" : "groups.none")} command={text ? "" : commands.consume("drone-events")}>
          {text ? "" : t("groups.empty.how")}
        </Teach>
      )}
    </div>
  );
}

/** A group without members that is behind waits for nobody. */
function stateOf(row: GroupRow): State {
  if (row.members === 0) return row.lag > 0 ? "warning" : "unknown";
  if (row.trend === "losing") return (row.lag_ms ?? 0) > 300_000 ? "critical" : "warning";
  return row.state.toLowerCase() === "stable" ? "ok" : "info";
}

const ORDER: State[] = ["critical", "warning", "info", "ok", "unknown"];
const ARROWS = { gaining: "↓", steady: "→", losing: "↑" };

function columns(): Column<GroupRow>[] {
  return [
    { id: "state", head: t("col.state"), sort: (row) => ORDER.indexOf(stateOf(row)), cell: (row) => <><Mark state={stateOf(row)} /> {word("group", row.state)}</> },
    { id: "name", head: t("col.group"), wide: true, sort: (row) => row.name, cell: (row) => <span class="id">{row.name}</span> },
    { id: "members", head: t("col.members"), number: true, sort: (row) => row.members, cell: (row) => row.members },
    { id: "late", head: t("col.behind"), number: true, sort: (row) => row.lag_ms ?? 0, cell: (row) => (row.lag_ms === null ? "–" : row.lag === 0 ? t("lag.none") : duration(row.lag_ms)) },
    { id: "lag", head: t("col.lag"), number: true, sort: (row) => row.lag, cell: (row) => <span title={exact(row.lag)}>{si(row.lag)}</span> },
    { id: "line", head: t("col.five"), cell: (row) => <Spark values={groupLags.get(row.name)} /> },
    { id: "trend", head: t("col.trend"), sort: (row) => ["losing", "steady", "gaining"].indexOf(row.trend), cell: (row) => <span class={row.trend === "losing" ? "warning" : ""}>{ARROWS[row.trend]} {t(`trend.${row.trend}`)}</span> },
    { id: "copy", head: "", cell: () => <Copy command={commands.groups()} /> },
  ];
}
