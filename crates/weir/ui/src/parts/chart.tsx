// A chart over time on uPlot: thin lines named at their end, one cursor for all charts of a page,
// gaps drawn as gaps, from zero.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { colour, colours, alpha } from "../theme";
import { lang } from "../i18n";

export interface Line {
  name: string;
  values: (number | null)[];
  /** Custom property of its colour. */
  colour: string;
  dash?: number[];
  /** Fills down to the line before it. */
  fan?: boolean;
}

interface Props {
  label: string;
  /** Seconds. */
  times: number[];
  lines: Line[];
  format: (value: number) => string;
  height: number;
  /** Charts with the same name share their cursor. */
  cursor?: string;
  /** Seconds shown, however few points there are. */
  span?: number;
}

const FONT = '11px system-ui, "PingFang SC", "Noto Sans CJK SC", sans-serif';

export function Chart(props: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const latest = useRef(props);
  latest.current = props;
  const shape = `${colours.value} ${lang.value} ${props.lines.map((line) => line.name).join("|")}`;

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const made = new uPlot(options(latest, element.clientWidth), data(latest.current), element);
    plot.current = made;
    const observer = new ResizeObserver(() => {
      if (element.clientWidth > 0) made.setSize({ width: element.clientWidth, height: latest.current.height });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = undefined;
    };
  }, [shape]);
  useEffect(() => plot.current?.setData(data(props)), [props.times, props.lines]);

  return <div class="chart" ref={box} role="img" aria-label={props.label} style={{ height: `${props.height}px` }} />;
}

const data = (props: Props): uPlot.AlignedData =>
  [props.times, ...props.lines.map((line) => line.values)] as unknown as uPlot.AlignedData;

function options(latest: { current: Props }, width: number): uPlot.Options {
  const { lines, height, cursor } = latest.current;
  const axis = { stroke: colour("--dim"), font: FONT, ticks: { show: false }, gap: 4 };
  const grid = { stroke: colour("--grid"), width: 1 };
  const fans = lines.flatMap((line, at) =>
    line.fan ? [{ series: [at + 1, at] as [number, number], fill: alpha(line.colour, 0.14) }] : [],
  );
  return {
    width,
    height,
    padding: [8, 60, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      points: { size: 5 },
      drag: { x: false, y: false },
      ...(cursor ? { sync: { key: cursor } } : {}),
    },
    scales: {
      x: { time: true, range: (_, min, max) => [Math.min(min, max - (latest.current.span ?? 0)), max] },
      y: { range: (_, __, max) => [0, max > 0 ? max * 1.12 : 1] },
    },
    series: [
      {},
      ...lines.map((line) => ({
        stroke: colour(line.colour),
        width: 1.25,
        points: { show: false },
        ...(line.dash ? { dash: line.dash } : {}),
      })),
    ],
    bands: fans,
    axes: [
      { ...axis, grid: { show: false }, size: 24, space: 70, values: (plot, ticks) => ticks.map((s) => (plot.valToPos(s, "x") < 26 ? "" : clockTime(s))) },
      { ...axis, grid, size: 58, space: 28, values: (_, ticks) => ticks.map((v) => latest.current.format(v)) },
    ],
    hooks: { draw: [(plot) => endLabels(plot, latest.current)], setCursor: [(plot) => tip(plot, latest.current)] },
  };
}

const clockTime = (s: number): string => new Date(s * 1000).toTimeString().slice(0, 8);

/** Names at the lines' ends, moved apart where they would overlap. */
function endLabels(plot: uPlot, props: Props): void {
  const { ctx } = plot;
  const ratio = devicePixelRatio || 1;
  const labels = props.lines.flatMap((line) => {
    const last = line.values.findLast((value) => value !== null);
    return last === undefined || last === null ? [] : [{ line, y: plot.valToPos(last, "y", true) }];
  });
  labels.sort((a, b) => a.y - b.y);
  const gap = 12 * ratio;
  // From the bottom up, so that the labels stay inside the plot.
  let floor = plot.bbox.top + plot.bbox.height;
  for (const label of labels.reverse()) {
    label.y = Math.min(label.y, floor);
    floor = label.y - gap;
  }
  ctx.save();
  ctx.font = FONT.replace("11px", `${11 * ratio}px`);
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  for (const { line, y } of labels) {
    ctx.fillStyle = colour(line.colour);
    ctx.fillText(line.name, plot.bbox.left + plot.bbox.width + 6 * ratio, y);
  }
  ctx.restore();
}

function tip(plot: uPlot, props: Props): void {
  const at = plot.cursor.idx;
  const box = plot.root.querySelector<HTMLElement>(".tip") ?? plot.over.appendChild(document.createElement("div"));
  box.className = "tip";
  if (at === null || at === undefined || (plot.cursor.left ?? -1) < 0) {
    box.hidden = true;
    return;
  }
  const parts = props.lines.map((line) => {
    const value = line.values[at];
    return `${line.name} ${value === null || value === undefined ? "–" : props.format(value)}`;
  });
  box.textContent = [clockTime(props.times[at] ?? 0), ...parts].join("  ");
  box.hidden = false;
}
