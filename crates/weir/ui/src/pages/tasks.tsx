import { commands } from "../commands";
import { ago, duration, iso } from "../format";
import { t } from "../i18n";
import { Bar, Copy, Link, Mark, Teach } from "../parts/bits";
import { Table, type Column } from "../parts/table";
import { second, serverNow, tasks } from "../state";
import type { State, Task } from "../types";
import { param } from "../url";
import { Filter } from "./alerts";

/** A task not heard of for this long is not shown as running. */
const SILENT_MS = 60_000;

export function Tasks() {
  void second.value;
  const all = tasks.value ?? [];
  const text = param("q").toLowerCase();
  const rows = all.filter((task) => !text || `${task.id} ${task.device} ${task.current_step}`.toLowerCase().includes(text));
  return (
    <div class="page">
      <div class="tools">
        <h1>{t("page.tasks")}</h1>
        <Filter />
        <span class="spring" />
        <Copy command={commands.tail("task-events")} label={t("copy.command")} />
      </div>
      {rows.length > 0 ? (
        <Table label={t("page.tasks")} columns={columns()} rows={rows} id={(task) => task.id} first="due" />
      ) : (
        <Teach title={t(text ? "filter.none" : "tasks.empty")} command={text ? "" : commands.task()}>
          {text ? "" : t("tasks.empty.how")}
        </Teach>
      )}
    </div>
  );
}

function stateOf(task: Task, now: number): State {
  if (task.progress_percent >= 100) return "ok";
  if (now - task.at_ms > SILENT_MS) return "unknown";
  return task.estimated_completion_ms !== null && task.estimated_completion_ms < now ? "warning" : "info";
}

const WORDS = { ok: "task.done", warning: "task.late", info: "task.running", unknown: "task.silent", critical: "task.late" } as const;

function columns(): Column<Task>[] {
  const now = serverNow();
  return [
    { id: "state", head: t("col.state"), sort: (k) => ["warning", "unknown", "info", "ok"].indexOf(stateOf(k, now)), cell: (k) => <><Mark state={stateOf(k, now)} /> {t(WORDS[stateOf(k, now)])}</> },
    { id: "task", head: t("col.task"), sort: (k) => k.id, cell: (k) => <span class="id">{k.id}</span> },
    { id: "device", head: t("col.device"), sort: (k) => k.device, cell: (k) => <Link class="id" to={`/map?device=${encodeURIComponent(k.device)}`}>{k.device}</Link> },
    { id: "progress", head: `${t("col.progress")} %`, number: true, sort: (k) => k.progress_percent, cell: (k) => <span class="progress"><Bar part={k.progress_percent / 100} state="neutral" /> {Math.round(k.progress_percent)}</span> },
    { id: "step", head: t("col.step"), wide: true, sort: (k) => k.current_step, cell: (k) => <span title={k.current_step}>{k.current_step}</span> },
    {
      id: "due",
      head: t("col.due"),
      number: true,
      // What is done has no due time left to worry about.
      sort: (k) => (k.progress_percent >= 100 ? Infinity : (k.estimated_completion_ms ?? Number.MAX_VALUE)),
      cell: (k) => <Due task={k} now={now} />,
    },
    { id: "heard", head: t("col.heard"), number: true, sort: (k) => now - k.at_ms, cell: (k) => <time title={iso(k.at_ms)}>{ago(now - k.at_ms)}</time> },
    { id: "copy", head: "", cell: (k) => <Copy command={commands.find("task-events", k.id)} /> },
  ];
}

function Due({ task, now }: { task: Task; now: number }) {
  const due = task.estimated_completion_ms;
  if (due === null || task.progress_percent >= 100) return <>–</>;
  return <time title={iso(due)}>{due >= now ? t("due.in", { what: duration(due - now) }) : t("due.over", { what: duration(now - due) })}</time>;
}
