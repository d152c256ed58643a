// One table for all pages: sorted by the address, numbers right, long lists drawn in part.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { t } from "../i18n";
import { param, setParams } from "../url";

export interface Column<Row> {
  id: string;
  head: string;
  /** Right-aligned figures. */
  number?: boolean;
  /** What to sort by; columns without it cannot be sorted. */
  sort?: (row: Row) => number | string;
  cell: (row: Row) => ComponentChildren;
  /** Takes the room that is left. */
  wide?: boolean;
}

interface Props<Row> {
  label: string;
  columns: Column<Row>[];
  rows: Row[];
  id: (row: Row) => string;
  /** "lag" ascending, "-lag" descending; used until a head is pressed. */
  first: string;
  chosen?: string;
  onChoose?: (id: string) => void;
}

const ROW_PX = 29;
const WHOLE_MAX = 100;

export function Table<Row>(props: Props<Row>) {
  const order = param("sort") || props.first;
  const rows = sorted(props, order);
  const scroller = useRef<HTMLDivElement>(null);
  const [part, setPart] = useState({ from: 0, to: 60 });
  const windowed = rows.length > WHOLE_MAX;

  useEffect(() => {
    const box = scroller.current;
    if (!box || !windowed) return;
    const look = (): void => {
      const from = Math.max(0, Math.floor(box.scrollTop / ROW_PX) - 10);
      setPart({ from, to: from + Math.ceil(box.clientHeight / ROW_PX) + 20 });
    };
    look();
    box.addEventListener("scroll", look, { passive: true });
    return () => box.removeEventListener("scroll", look);
  }, [windowed]);

  const shown = windowed ? rows.slice(part.from, part.to) : rows;
  const above = windowed ? Math.min(part.from, rows.length) * ROW_PX : 0;
  const below = windowed ? Math.max(0, rows.length - part.to) * ROW_PX : 0;
  const gap = (height: number) => height > 0 && (
    <tr aria-hidden="true" class="gap">
      <td colSpan={props.columns.length} style={{ height: `${height}px` }} />
    </tr>
  );
  return (
    <div class="scroll" ref={scroller} tabIndex={-1}>
      <table aria-label={props.label} aria-rowcount={rows.length + 1}>
        <thead>
          <tr>
            {props.columns.map((column) => (
              <Head key={column.id} column={column} order={order} />
            ))}
          </tr>
        </thead>
        <tbody>
          {gap(above)}
          {shown.map((row) => (
            <Line key={props.id(row)} row={row} {...props} />
          ))}
          {gap(below)}
        </tbody>
      </table>
    </div>
  );
}

function Head<Row>({ column, order }: { column: Column<Row>; order: string }) {
  const up = order === column.id;
  const down = order === `-${column.id}`;
  const kind = `${column.number ? "number" : ""} ${column.wide ? "wide" : ""}`;
  if (!column.sort) return <th class={kind}>{column.head}</th>;
  // Figures are wanted largest first.
  const next = down ? column.id : up ? `-${column.id}` : column.number ? `-${column.id}` : column.id;
  return (
    <th class={kind} aria-sort={up ? "ascending" : down ? "descending" : "none"}>
      <button onClick={() => setParams({ sort: next })} title={t("table.sort", { what: column.head })}>
        {column.head}
        <span class="order">{up ? "↑" : down ? "↓" : ""}</span>
      </button>
    </th>
  );
}

function Line<Row>(props: Props<Row> & { row: Row }) {
  const { row, onChoose } = props;
  const id = props.id(row);
  const cells = props.columns.map((column) => (
    <td key={column.id} class={`${column.number ? "number" : ""} ${column.wide ? "wide" : ""}`}>
      {column.cell(row)}
    </td>
  ));
  if (!onChoose) return <tr>{cells}</tr>;
  const chosen = props.chosen === id;
  const key = (event: KeyboardEvent): void => {
    if (event.target !== event.currentTarget) return;
    const line = event.currentTarget as HTMLElement;
    if (event.key === "Enter" || event.key === " ") onChoose(id);
    else if (event.key === "ArrowDown") (line.nextElementSibling as HTMLElement | null)?.focus();
    else if (event.key === "ArrowUp") (line.previousElementSibling as HTMLElement | null)?.focus();
    else return;
    event.preventDefault();
  };
  return (
    <tr class={chosen ? "chosen" : "choosable"} tabIndex={0} aria-selected={chosen} onClick={() => onChoose(id)} onKeyDown={key}>
      {cells}
    </tr>
  );
}

function sorted<Row>(props: Props<Row>, order: string): Row[] {
  const down = order.startsWith("-");
  const by = props.columns.find((column) => column.id === (down ? order.slice(1) : order))?.sort;
  if (!by) return props.rows;
  const sign = down ? -1 : 1;
  return props.rows
    .map((row) => ({ row, key: by(row), id: props.id(row) }))
    .sort((a, b) => sign * compare(a.key, b.key) || compare(a.id, b.id))
    .map(({ row }) => row);
}

/** "drone-9" before "drone-10". */
const collator = new Intl.Collator(undefined, { numeric: true });
function compare(a: number | string, b: number | string): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return collator.compare(String(a), String(b));
}
