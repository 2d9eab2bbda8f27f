// Let a model draft the whole case: those that fit, and why the others do not.
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Client } from '../server/client';
import type { Desk } from '../draft/desk';
import type { CaseView, JobView, ModelView, ProjectView } from '../server/types';
import { misfit } from './fitting';

export function Drafting({ client, desk, models, found, project }: { client: Client; desk: Desk; models: ModelView[]; found: CaseView; project: ProjectView | undefined }) {
  const apps = models.filter(model => model.card?.drafts !== false)
    .sort((a, b) => Number(misfit(a, found) !== '') - Number(misfit(b, found) !== '') || Number(!project?.apps.includes(a.name)) - Number(!project?.apps.includes(b.name)));
  const [chosen, setChosen] = useState('');
  const [job, setJob] = useState<JobView | null>(null);
  const stream = useRef<EventSource | null>(null);
  const name = chosen || apps[0]?.name || '';
  const model = models.find(each => each.name === name);
  const why = model ? misfit(model, found) : 'There is no app that drafts.';
  useEffect(() => () => stream.current?.close(), []);

  const follow = (first: JobView) => {
    setJob(first);
    stream.current?.close();
    const source = stream.current = new EventSource(`/api/v1/jobs/${first.id}/events`);
    source.addEventListener('job', event => {
      const now: JobView = JSON.parse(event.data);
      setJob(now);
      if (!now.has_ended) return;
      source.close();
      if (now.state === 'succeeded') void desk.refresh();
    });
  };
  const run = async () => { const ordered = await desk.order(name); if (ordered) follow(ordered); };
  const isRunning = job !== null && !job.has_ended;

  return (
    <section aria-labelledby="as-drafting">
      <h2 id="as-drafting">Draft</h2>
      <div class="as-row">
        <select class="as-grow" aria-label="App that drafts" data-cy="as-app" value={name} onChange={event => setChosen(event.currentTarget.value)}>
          {apps.map(each => <option key={each.name} value={each.name} disabled={misfit(each, found) !== ''}>{each.card?.title ?? each.name}{misfit(each, found) ? ' (does not fit)' : ''}</option>)}
        </select>
        {isRunning ? <button data-cy="as-cancel" onClick={async () => setJob(await client.cancel(job.id))}>Cancel</button>
          : <button class="as-main" data-cy="as-draft" disabled={why !== ''} onClick={run}>Draft</button>}
      </div>
      {why ? <p class="as-quiet">{why}</p> : model?.card && <p class="as-quiet" title={`${model.card.purpose}\nNot for: ${model.card.not_for}\n${model.card.attribution}`}>{model.version} · {model.card.licence}</p>}
      {isRunning && <div role="status"><progress max={1} value={job.progress} aria-label="Progress of the draft" /><span class="as-quiet"> {job.message || job.state}</span></div>}
      {job?.has_ended && job.state !== 'succeeded' && <p role="alert" class="as-quiet">{job.state === 'cancelled' ? 'The draft was cancelled.' : job.problem?.detail ?? 'The draft failed.'}</p>}
      {apps.some(each => misfit(each, found)) && (
        <details><summary class="as-quiet">Apps that do not fit</summary>
          {apps.filter(each => misfit(each, found)).map(each => <p key={each.name} class="as-quiet"><strong>{each.card?.title ?? each.name}</strong>: {misfit(each, found)}</p>)}
        </details>
      )}
    </section>
  );
}
