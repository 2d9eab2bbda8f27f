// Let a model draft the whole case: those that fit, and why the others do not.
import { useState } from 'preact/hooks';
import type { CaseView, ModelView, ProjectView } from '../server/types';
import { misfit } from './fitting';
import type { Ordering } from './ordering';

export function Drafting({ ordering, models, found, project }: { ordering: Ordering; models: ModelView[]; found: CaseView; project: ProjectView | undefined }) {
  const apps = models.filter(model => model.card?.drafts !== false)
    .sort((a, b) => Number(misfit(a, found) !== '') - Number(misfit(b, found) !== '') || Number(!project?.apps.includes(a.name)) - Number(!project?.apps.includes(b.name)));
  const [chosen, setChosen] = useState('');
  const { job, isRunning, remark } = ordering;
  const name = chosen || apps[0]?.name || '';
  const model = apps.find(each => each.name === name);
  const why = model ? misfit(model, found) : 'There is no app that drafts.';
  const misfits = apps.filter(each => misfit(each, found));

  return (
    <section aria-labelledby="as-drafting">
      <h2 id="as-drafting">Draft</h2>
      <div class="as-row as-tight">
        <select class="as-grow" aria-label="App that drafts" data-cy="as-app" value={name} onChange={event => setChosen(event.currentTarget.value)}>
          {apps.map(each => <option key={each.name} value={each.name} disabled={misfit(each, found) !== ''}>{each.card?.title ?? each.name}{misfit(each, found) ? ' (does not fit)' : ''}</option>)}
        </select>
        {isRunning ? <button data-cy="as-cancel" onClick={() => void ordering.cancel()}>Cancel</button>
          : <button class="as-main" data-cy="as-draft" disabled={why !== ''} onClick={() => void ordering.run(name)}>Draft</button>}
      </div>
      {why ? <p class="as-quiet">{why}</p> : model?.card && <p class="as-quiet" title={`${model.card.purpose}\nNot for: ${model.card.not_for}\n${model.card.attribution}`}>Version {model.version} · {model.card.licence}</p>}
      {isRunning && <div role="status"><progress max={1} value={job?.progress ?? 0} aria-label="Progress of the draft" /><span class="as-quiet"> {job?.message || job?.state}</span></div>}
      {job?.has_ended && job.state !== 'succeeded' && <p role="alert">{job.state === 'cancelled' ? 'The draft was cancelled.' : job.problem?.detail ?? 'The draft failed.'}</p>}
      {remark && <p role="status">{remark}</p>}
      {misfits.length > 0 && (
        <details><summary class="as-quiet">Apps that do not fit</summary>
          {misfits.map(each => <p key={each.name} class="as-quiet"><strong>{each.card?.title ?? each.name}</strong>: {misfit(each, found)}</p>)}
        </details>
      )}
    </section>
  );
}
