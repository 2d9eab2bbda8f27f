// The case on the desk: from what the viewer shows to a session, and back after a change of layout.
import { Desk } from '../draft/desk';
import { imagesByK } from '../draft/grid';
import type { Series, Viewer } from '../host/viewer';
import type { Client } from '../server/client';
import { Problem } from '../server/problem';
import type { CaseView, LabelView, SessionView } from '../server/types';

/** The case that a series shows: by the identifiers that DICOMweb serves it as; null where it is none. */
export async function caseOf(client: Client, cases: readonly CaseView[], series: Series, asked: string): Promise<CaseView | null> {
  const shown = cases.filter(each => each.series_uid === series.seriesUid);
  const found = shown.find(each => each.id === asked) ?? shown[0];
  return found ? client.case(found.id) : null;
}

/**
 * A session on a case: the one left or open in another window, else a new one. Where a label waits for review it is one
 * that began with that label: a session left after an earlier review shows what was submitted then.
 */
export async function sessionOn(client: Client, project: string, id: string, waiting: LabelView | null): Promise<SessionView> {
  const mine = (await client.sessions()).find(session => session.project === project && session.case === id && (!waiting || session.parent === waiting.id));
  if (mine) return client.resume(mine.id);
  try {
    return await client.open(project, id);
  } catch (error) {
    if (error instanceof Problem && error.session) return client.resume(error.session);
    throw error;
  }
}

/** A desk whose draft the viewer shows. */
export async function deskOn(client: Client, viewer: Viewer, found: CaseView, session: SessionView): Promise<Desk> {
  const images = imagesByK(found, viewer.shownImages());
  const desk = new Desk(client, session);
  viewer.remove();
  await desk.show(await viewer.surface(images, desk.state.segments));
  return desk;
}

/** Show the draft again where a new layout lost it. */
export async function shownAgain(viewer: Viewer, desk: Desk, found: CaseView): Promise<void> {
  if (!viewer.isShown()) await desk.show(await viewer.surface(imagesByK(found, viewer.shownImages()), desk.state.segments));
  await viewer.outlinesAgain();
  viewer.redrawAll();
}
