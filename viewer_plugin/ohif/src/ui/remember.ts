// What the browser remembers between pages: who works here, and on which project.
const NAME = 'annotate.name';
const PROJECT = 'annotate.project';

export const nameHere = (): string => localStorage.getItem(NAME) || 'me';
export const setNameHere = (name: string): void => localStorage.setItem(NAME, name);
export const projectHere = (): string => new URLSearchParams(location.search).get('project') || localStorage.getItem(PROJECT) || '';
export const setProjectHere = (id: string): void => localStorage.setItem(PROJECT, id);
export const caseAsked = (): string => new URLSearchParams(location.search).get('case') ?? '';

/** The address that a case is annotated at. */
export function addressOf(project: string, found: { id: string; study_uid: string; series_uid: string }): string {
  const asked = new URLSearchParams({ StudyInstanceUIDs: found.study_uid, SeriesInstanceUIDs: found.series_uid, project, case: found.id });
  return `/viewer/annotate?${asked}`;
}
