// The small parts every page is made of.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { lang, t } from "../i18n";
import type { Alert, State } from "../types";
import { go } from "../url";

const SHAPES: Record<State, string> = { ok: "●", warning: "▲", critical: "■", info: "◆", unknown: "○" };

/** A state as colour and shape, with its name for who cannot see either. */
export function Mark({ state }: { state: State }) {
  return (
    <span class={`mark ${state}`} role="img" aria-label={t(`state.${state}`)} title={t(`state.${state}`)}>
      {SHAPES[state]}
    </span>
  );
}

export function Panel(props: { title: string; more?: ComponentChildren; class?: string; children: ComponentChildren }) {
  return (
    <section class={`panel ${props.class ?? ""}`} aria-label={props.title}>
      <header>
        <h2>{props.title}</h2>
        {props.more && <div class="more">{props.more}</div>}
      </header>
      <div class="body">{props.children}</div>
    </section>
  );
}

/** A link within the console: an address, so it can be opened elsewhere too. */
export function Link(props: { to: string; class?: string; current?: boolean; title?: string; children: ComponentChildren }) {
  const follow = (event: MouseEvent): void => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    go(props.to);
  };
  return (
    <a href={props.to} class={props.class} onClick={follow} title={props.title} aria-current={props.current ? "page" : undefined}>
      {props.children}
    </a>
  );
}

/** Copies a command; says that it did. */
export function Copy({ command, label }: { command: string; label?: string }) {
  const [done, setDone] = useState(false);
  const copy = async (event: MouseEvent): Promise<void> => {
    event.stopPropagation();
    await copyText(command);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return (
    <button class="copy" onClick={(event) => void copy(event)} title={command} aria-label={`${t("copy.command")}: ${command}`}>
      {done ? t("copy.done") : (label ?? <CopyIcon />)}
    </button>
  );
}

function CopyIcon() {
  return (
    <svg class="icon" width="12" height="12" viewBox="0 0 12 12" aria-hidden="true">
      <path d="M3.5 3.5h7v7h-7zM8.5 3.5v-2h-7v7h2" />
    </svg>
  );
}

/** The clipboard API needs a secure context, which a console on another host may lack. */
async function copyText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.body.appendChild(document.createElement("textarea"));
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

export function Command({ line }: { line: string }) {
  return (
    <div class="command">
      <code tabIndex={0}>{line}</code>
      <Copy command={line} label={t("copy")} />
    </div>
  );
}

/** What an empty page says: what will appear, when, and the command that makes it appear. */
export function Teach(props: { title: string; children?: ComponentChildren; command?: string }) {
  return (
    <div class="teach">
      <p class="title">{props.title}</p>
      {props.children && <p>{props.children}</p>}
      {props.command && <Command line={props.command} />}
    </div>
  );
}

export function Bar({ part, state = "info" }: { part: number; state?: State | "neutral" }) {
  const percent = Math.max(0, Math.min(100, part * 100));
  return (
    <span class={`bar ${state}`} aria-hidden="true">
      <i style={{ width: `${percent}%` }} />
    </span>
  );
}

export const levelState = (level: Alert["level"]): State => level;

export function alertText(alert: Alert): string {
  return (lang.value === "zh" ? alert.message_zh : alert.message_en) ?? alert.message;
}

/** A line of the last five minutes without axes; gaps (null) stay gaps. A point is `per` values. */
export function Spark({ values, per = 1, width = 92, height = 22 }: { values: (number | null)[]; per?: number; width?: number; height?: number }) {
  const points = 60;
  const means: (number | null)[] = [];
  for (let at = values.length % per; at < values.length; at += per) {
    const part = values.slice(at, at + per).filter((v): v is number => v !== null);
    means.push(part.length ? part.reduce((a, b) => a + b, 0) / part.length : null);
  }
  const most = Math.max(1e-9, ...means.map((v) => v ?? 0));
  const stepX = width / (points - 1);
  const from = points - means.length;
  let [line, pen] = ["", false];
  means.forEach((value, at) => {
    if (value === null) {
      pen = false;
      return;
    }
    const y = height - 2 - (value / most) * (height - 4);
    line += `${pen ? "L" : "M"}${((from + at) * stepX).toFixed(1)} ${y.toFixed(1)}`;
    pen = true;
  });
  return (
    <svg class="spark" width={width} height={height} viewBox={`0 0 ${width} ${height}`} aria-hidden="true">
      <path d={`M0 ${height - 1.5}H${width}`} class="zero" />
      <path d={line} />
    </svg>
  );
}
