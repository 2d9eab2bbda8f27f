// The cases of a project, where each stands, and the way to the next.
import { useCallback, useEffect, useState } from 'preact/hooks';
import type { Client } from '../server/client';
import { asProblem, type Problem } from '../server/problem';
import type { CaseView, LabelView, MeView, ProjectView, WorkItemView } from '../server/types';
import { Icon } from './icons';
import { ProblemBox } from './problem';
import { difficultyOf } from './difficulty';
import { addressOf, setProjectHere } from './remember';

const WORDS: Record<string, string> = {
  'open': 'open', 'in-work': 'in work', 'submitted': 'waits for review', 'returned': 'returned', 'approved': 'approved', 'put-aside': 'put aside',
};

export interface WorklistProps {
  client: Client;
  me: MeView;
  projects: ProjectView[];
  project: string;
  current: string;
  onProject: (id: string) => void;
  /** Called before the page is left, so that nothing unsent is lost. */
  beforeLeaving: () => Promise<boolean>;
}

export function Worklist({ client, me, projects, project, current, onProject, beforeLeaving }: WorklistProps) {
  const [items, setItems] = useState<WorkItemView[]>([]);
  const [cases, setCases] = useState<Map<string, CaseView>>(new Map());
  const [reviews, setReviews] = useState<LabelView[]>([]);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [aside, setAside] = useState('');
  const [reason, setReason] = useState('');

  const attempt = useCallback(async (act: () => Promise<unknown>) => {
    try { setProblem(null); await act(); } catch (error) { setProblem(asProblem(error)); }
  }, []);
  const load = useCallback(() => attempt(async () => {
    if (!project) return;
    const [listed, known, waiting] = await Promise.all([client.worklist(project), client.cases(), client.reviews(project)]);
    setItems(listed);
    setCases(new Map(known.map(each => [each.id, each])));
    setReviews(waiting);
  }), [project]);
  useEffect(() => { void load(); }, [load]);

  const go = (id: string) => attempt(async () => {
    if (!await beforeLeaving()) return;
    location.assign(addressOf(project, await client.case(id)));
  });
  const next = () => attempt(async () => {
    if (!await beforeLeaving()) return;
    const session = await client.next(project);
    location.assign(addressOf(project, await client.case(session.case)));
  });
  const put = (id: string) => attempt(async () => { await client.putAside(project, id, reason); setAside(''); setReason(''); await load(); });
  const back = (id: string) => attempt(async () => { await client.takeBack(project, id); await load(); });
  const canReview = me.role !== 'annotator';

  return (
    <section aria-labelledby="as-worklist">
      <div class="as-row"><h2 id="as-worklist" class="as-grow">Worklist</h2><a href="/loop" target="_blank" rel="noopener" title="What the models have learned, and what runs now">Models</a><button class="as-plain" onClick={load} aria-label="Load the worklist again"><Icon of="again" /></button></div>
      <div class="as-row">
        <select class="as-grow" aria-label="Project" data-cy="as-project" value={project} onChange={event => { setProjectHere(event.currentTarget.value); onProject(event.currentTarget.value); }}>
          {projects.map(each => <option key={each.id} value={each.id}>{each.title}</option>)}
        </select>
        <button class="as-main" data-cy="as-next" disabled={!project} onClick={next}>Next case</button>
      </div>
      <ProblemBox problem={problem} onClose={() => setProblem(null)} />
      <ul class="as-list" aria-label="Cases">
        {items.map(item => {
          const known = cases.get(item.case);
          const waits = reviews.find(label => label.case === item.case);
          const difficulty = difficultyOf(item);
          return (
            <li key={item.case} class="as-item" aria-current={item.case === current ? 'true' : undefined}>
              <button class="as-plain as-grow" data-cy={`as-case-${item.case}`} title={known?.name ?? item.case} onClick={() => go(item.case)}>{known?.name ?? item.case.slice(0, 12)}</button>
              <span class="as-quiet" title={item.reason}>{known?.modality ?? ''} {WORDS[item.status] ?? item.status}{item.person && item.status !== 'open' ? ` · ${item.person}` : ''}{item.status === 'open' && item.predicted_by ? ' · drafted' : ''}</span>
              {difficulty && <span class="as-word" data-word={difficulty.word} title={difficulty.title}>{difficulty.word}</span>}
              {waits && canReview && <button onClick={() => go(item.case)}>Review</button>}
              {item.status === 'put-aside' ? <button class="as-plain" onClick={() => back(item.case)}>Take back</button>
                : item.status === 'open' && <button class="as-plain" aria-label={`Put ${known?.name ?? 'the case'} aside`} title="Put aside" onClick={() => setAside(aside === item.case ? '' : item.case)}><Icon of="aside" /></button>}
            </li>
          );
        })}
      </ul>
      {!items.length && !problem && <p class="as-quiet">There are no cases in this project.</p>}
      {aside && (
        <form class="as-row" onSubmit={event => { event.preventDefault(); void put(aside); }}>
          <input class="as-grow" type="text" aria-label="Why the case cannot be used" placeholder="Why it cannot be used" required maxLength={200} value={reason} onInput={event => setReason(event.currentTarget.value)} />
          <button>Put aside</button>
        </form>
      )}
    </section>
  );
}
