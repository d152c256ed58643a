// Every page of the console. A later layer adds one entry here, one file beside this one, and its
// texts; the server says whether the layer runs (/api/layers).
import type { ComponentType } from "preact";
import type { Key } from "../i18n";
import { openAlerts } from "../state";
import { Alerts } from "./alerts";
import { Groups } from "./groups";
import { MapPage } from "./map";
import { Overview } from "./overview";
import { Tasks } from "./tasks";
import { Topics } from "./topics";

export interface Page {
  /** The address: "/" + id. */
  id: string;
  title: Key;
  /** Without this layer the page says how to turn it on. */
  layer: string | null;
  view: ComponentType;
  /** A figure beside the title, if it is not zero. */
  badge?: () => number;
}

export const pages: Page[] = [
  { id: "", title: "page.overview", layer: null, view: Overview },
  { id: "map", title: "page.map", layer: "fleet", view: MapPage },
  { id: "alerts", title: "page.alerts", layer: "fleet", view: Alerts, badge: () => openAlerts.value.length },
  { id: "tasks", title: "page.tasks", layer: "fleet", view: Tasks },
  { id: "topics", title: "page.topics", layer: "kafka", view: Topics },
  { id: "groups", title: "page.groups", layer: "kafka", view: Groups },
];
