import { commands } from "../commands";
import { bytes, duration, exact, rate, si } from "../format";
import { t } from "../i18n";
import { Bar, Command, Copy, Panel, Spark, Teach } from "../parts/bits";
import { Table, type Column } from "../parts/table";
import { topicRates, topics } from "../state";
import type { TopicRow } from "../types";
import { param, setParams } from "../url";
import { Filter } from "./alerts";

export function Topics() {
  const all = topics.value ?? [];
  const text = param("q").toLowerCase();
  const rows = all.filter((row) => !text || row.name.toLowerCase().includes(text));
  const chosen = all.find((row) => row.name === param("topic"));
  return (
    <div class={chosen ? "page with-side" : "page"}>
      <div class="tools">
        <h1>{t("page.topics")}</h1>
        <Filter />
        <span class="dim">{t("topics.sum", { n: all.length, bytes: bytes(all.reduce((sum, row) => sum + row.bytes, 0)) })}</span>
        <span class="spring" />
        <Copy command={commands.topics()} label={t("copy.command")} />
      </div>
      {rows.length > 0 ? (
        <Table label={t("page.topics")} columns={columns()} rows={rows} id={(row) => row.name} first="-rate"
          chosen={chosen?.name ?? ""} onChoose={(name) => setParams({ topic: name === chosen?.name ? "" : name }, false)} />
      ) : (
        <Teach title={t(text ? "filter.none" : "topics.empty")} command={text ? "" : commands.heartbeat()}>
          {text ? "" : t("topics.empty.how")}
        </Teach>
      )}
      {chosen && <Topic row={chosen} />}
    </div>
  );
}

const records = (row: TopicRow): number => row.partition_records.reduce((sum, n) => sum + n, 0);

function columns(): Column<TopicRow>[] {
  return [
    { id: "name", head: t("col.topic"), wide: true, sort: (row) => row.name, cell: (row) => <span class="id">{row.name}</span> },
    { id: "line", head: t("col.five"), cell: (row) => <Spark values={topicRates.get(row.name)} /> },
    { id: "rate", head: t("col.rate"), number: true, sort: (row) => row.per_s, cell: (row) => <span title={exact(row.per_s)}>{rate(row.per_s)}</span> },
    { id: "records", head: t("col.records"), number: true, sort: records, cell: (row) => <span title={exact(records(row))}>{si(records(row))}</span> },
    { id: "bytes", head: t("col.size"), number: true, sort: (row) => row.bytes, cell: (row) => <span title={`${exact(row.bytes)} B`}>{bytes(row.bytes)}</span> },
    { id: "partitions", head: t("col.partitions"), number: true, sort: (row) => row.partition_records.length, cell: (row) => <span class="parts"><Skew counts={row.partition_records} /> {row.partition_records.length}</span> },
    { id: "retention", head: t("col.retention"), number: true, sort: (row) => row.retention_ms ?? Infinity, cell: (row) => (row.retention_ms === null ? t("retention.ever") : duration(row.retention_ms)) },
    { id: "copy", head: "", cell: (row) => <Copy command={commands.tail(row.name)} /> },
  ];
}

/** A bar for each partition: how evenly records lie. */
function Skew({ counts }: { counts: number[] }) {
  const shown = counts.slice(0, 24);
  const most = Math.max(1, ...shown);
  return (
    <svg class="skew" width={shown.length * 4} height={14} aria-hidden="true">
      {shown.map((count, at) => {
        const height = Math.max(1, (count / most) * 13);
        return <rect key={at} x={at * 4} y={14 - height} width={3} height={height} />;
      })}
    </svg>
  );
}

function Topic({ row }: { row: TopicRow }) {
  const most = Math.max(1, ...row.partition_records);
  return (
    <Panel title={row.name} class="side" more={<button class="close" onClick={() => setParams({ topic: "" }, false)} aria-label={t("close")}>×</button>}>
      <table class="rates" aria-label={t("col.partitions")}>
        <tbody>
          {row.partition_records.map((count, at) => (
            <tr key={at}>
              <th scope="row">{t("topic.partition", { n: at })}</th>
              <td class="wide"><Bar part={count / most} state="neutral" /></td>
              <td class="number" title={exact(count)}>{si(count)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="dim">{t("topic.read")}</p>
      <Command line={commands.tail(row.name)} />
      <Command line={commands.consume(row.name)} />
    </Panel>
  );
}
