// A project made in the browser: a name, the app whose segments it begins with, more of them, who looks twice, and
// whether labels go back.
import { useState } from 'preact/hooks';
import type { Client } from '../server/client';
import { asProblem, type Problem } from '../server/problem';
import type { ModelView, NewProjectForm, ProjectView } from '../server/types';
import { ProblemBox } from './problem';
import { COLOURS } from './segments';

/** Who looks twice, and whether what is approved goes back to the archive that its case came from. */
export interface Policy { isReviewed: boolean; sendsBack: boolean }

export function projectForm(title: string, app: ModelView | undefined, names: string, policy: Policy, taken: readonly string[]): NewProjectForm {
  const id = title.trim().toLowerCase().normalize('NFD').replace(/\p{M}/gu, '').replace(/[^a-z0-9]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 50) || 'project';
  let free = id;
  for (let n = 2; taken.includes(free); n++) free = `${id}-${n}`;
  const segments: NonNullable<NewProjectForm['segments']> = (app?.card?.segments ?? []).map(each => ({ index: each.index, name: each.name, colour: each.colour, kind: each.kind, category: each.category, laterality: each.laterality }));
  let index = Math.max(0, ...segments.map(each => each.index));
  for (const name of names.split(/[\n,;]/).map(each => each.trim()).filter(Boolean)) {
    if (segments.some(each => each.name === name)) continue;
    index += 1;
    segments.push({ index, name, colour: [...COLOURS[(index - 1) % COLOURS.length]!] });
  }
  return { id: free, title: title.trim(), segments, apps: app ? [app.name] : [], modalities: [], review: policy.isReviewed ? 'other-person' : 'none', send_labels_back: policy.sendsBack };
}

export function NewProject({ client, models, taken, onMade }: { client: Client; models: ModelView[]; taken: string[]; onMade: (made: ProjectView) => void }) {
  const [title, setTitle] = useState('');
  const [app, setApp] = useState('');
  const [names, setNames] = useState('');
  const [isReviewed, setReviewed] = useState(false);
  const [sendsBack, setSendsBack] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const make = async (event: Event) => {
    event.preventDefault();
    try {
      const made = await client.addProject(projectForm(title, models.find(each => each.name === app), names, { isReviewed, sendsBack }, taken));
      setTitle('');
      setNames('');
      setProblem(null);
      onMade(made);
    } catch (error) { setProblem(asProblem(error)); }
  };
  return (
    <section aria-labelledby="as-new-project">
      <details><summary id="as-new-project">New project</summary>
        <form class="as" onSubmit={make}>
          <input type="text" aria-label="Title of the project" placeholder="Title" required maxLength={200} value={title} onInput={event => setTitle(event.currentTarget.value)} />
          <select aria-label="App of the project" value={app} onChange={event => setApp(event.currentTarget.value)}>
            <option value="">No app: drawn by hand and by prompts</option>
            {models.filter(each => each.card).map(each => <option key={each.name} value={each.name}>{each.card!.title}</option>)}
          </select>
          <textarea aria-label="Segments" placeholder="More segments, one a line" value={names} onInput={event => setNames(event.currentTarget.value)} />
          <label class="as-row"><input type="checkbox" checked={isReviewed} onChange={event => setReviewed(event.currentTarget.checked)} /> A second person looks at every label</label>
          <label class="as-row" title="As DICOM SEG; a case that came from no archive goes nowhere"><input type="checkbox" data-cy="as-sends-back" checked={sendsBack} onChange={event => setSendsBack(event.currentTarget.checked)} /> Approved labels go back to the archive</label>
          <div class="as-row"><button class="as-main" data-cy="as-make-project" disabled={!title.trim()}>Make the project</button></div>
          <ProblemBox problem={problem} onClose={() => setProblem(null)} />
        </form>
      </details>
    </section>
  );
}
