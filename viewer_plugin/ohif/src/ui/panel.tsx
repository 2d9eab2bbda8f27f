// The panel in the viewer: the worklist, and the case that is open.
import { render } from 'preact';
import { useEffect, useMemo, useReducer, useRef, useState } from 'preact/hooks';
import type { Desk } from '../draft/desk';
import type { Host } from '../host/element';
import { Viewer, type Series } from '../host/viewer';
import { pageClient, type Client } from '../server/client';
import { asProblem, type Problem } from '../server/problem';
import type { CaseView, LabelView, MeView, ModelView, ProjectView } from '../server/types';
import { CaseDesk } from './case';
import { Review } from './finish';
import { ProblemBox } from './problem';
import { NoCase } from './refused';
import { Remarks } from './remarks';
import { caseAsked, nameHere, projectHere, setProjectHere } from './remember';
import { addStyle } from './style';
import { ThemeButton } from './themeButton';
import { caseOf, deskOn, sessionOn, shownAgain } from './workplace';
import { Worklist } from './worklist';

interface Ground { me: MeView; projects: ProjectView[]; models: ModelView[]; cases: CaseView[] }

function Panel({ viewer, client }: { viewer: Viewer; client: Client }) {
  const [ground, setGround] = useState<Ground | null>(null);
  const [project, setProject] = useState(projectHere());
  const [series, setSeries] = useState<Series | null>(viewer.series());
  const [open, setOpen] = useState<CaseView | null>(null);
  const [desk, setDesk] = useState<Desk | null>(null);
  const [waiting, setWaiting] = useState<LabelView | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [done, setDone] = useState('');
  const [isOpening, setOpening] = useState(false);
  const [layouts, laidOut] = useReducer((count: number) => count + 1, 0);
  const isStarted = useRef(false);

  const attempt = async (act: () => Promise<unknown>) => {
    try { setProblem(null); await act(); } catch (error) { setProblem(asProblem(error)); }
  };
  const load = () => attempt(async () => {
    const [me, projects, models, cases] = await Promise.all([client.me(), client.projects(), client.models(), client.cases()]);
    setGround({ me, projects, models, cases });
    if (!projects.some(each => each.id === project)) { const first = projects[0]?.id ?? ''; setProject(first); setProjectHere(first); }
  });
  useEffect(() => { void load(); }, []);
  useEffect(() => viewer.onLayout(() => { setSeries(viewer.series()); laidOut(undefined); }), [viewer]);

  // the case that the viewer shows
  useEffect(() => {
    if (!ground || !series || desk) return;
    void attempt(async () => {
      const next = await caseOf(client, ground.cases, series, caseAsked());
      setOpen(next);
      const labels = next ? await client.reviews(project) : [];
      const waits = labels.find(label => label.case === next?.id && label.author !== ground.me.name) ?? null;
      setWaiting(waits);
      if (next && next.id === caseAsked() && !isStarted.current) { isStarted.current = true; await begin(next, waits); }
    });
  }, [ground, series?.displaySet]);

  const begin = (on: CaseView, waits = waiting) => attempt(async () => {
    setOpening(true);
    try {
      const session = await sessionOn(client, project, on.id, waits);
      // its grid is known once the session is open: the server has read the volume then
      const known = await client.case(on.id);
      setOpen(known);
      setDesk(await deskOn(client, viewer, known, session));
      setDone('');
    } finally { setOpening(false); }
  });
  useEffect(() => {
    if (desk && open && series) void attempt(() => shownAgain(viewer, desk, open));
  }, [layouts]);

  const ended = (sentence: string) => { setDesk(null); viewer.remove(); setDone(sentence); isStarted.current = true; };
  const leaveQuietly = async () => !desk || desk.flush();

  return (
    <div class="as" data-cy="as-panel">
      <ProblemBox problem={problem} onClose={() => setProblem(null)}>{!ground && <button onClick={load}>Try again</button>}</ProblemBox>
      {waiting && ground?.me.role !== 'annotator' && <Review client={client} label={waiting} onDone={async () => { setWaiting(null); if (desk) await desk.leave(); ended('The review is stored.'); }} />}
      {desk && open && ground && <CaseDesk key={desk.id} client={client} viewer={viewer} desk={desk} found={open} models={ground.models}
        project={ground.projects.find(each => each.id === project)} onEnd={ended} />}
      {!desk && done && <section role="status" data-cy="as-done"><p>{done}</p></section>}
      {!desk && ground && (
        <section aria-label="Case">
          {open ? <><div class="as-row as-tight"><h3 class="as-grow">{open.name}</h3><ThemeButton /></div><Remarks found={open} />
              <button class="as-main" data-cy="as-begin" disabled={isOpening || !project} onClick={() => begin(open)}>{isOpening ? 'Opening…' : 'Annotate this case'}</button></>
            : series ? <NoCase client={client} series={series.seriesUid} /> : <p class="as-quiet">Waiting for the images.</p>}
        </section>
      )}
      {ground && <Worklist key={`${project} ${desk?.id ?? ''} ${done}`} client={client} me={ground.me} projects={ground.projects} project={project} current={open?.id ?? ''} onProject={setProject} beforeLeaving={leaveQuietly} />}
      {ground && <p class="as-quiet as-row"><span class="as-grow">You are {ground.me.name} ({ground.me.role})</span><a href="/viewer/worklist">Worklist</a> <a href="/viewer/">All studies</a>
        {ground.me.verified && <form method="post" action="/sign-out"><button class="as-plain">Sign out</button></form>}</p>}
    </div>
  );
}

let isStyled = false;

/** Put the panel into an element of the viewer; returns what takes it away. */
export function mountPanel(host: Host, element: HTMLElement): () => void {
  if (!isStyled) { addStyle(); isStyled = true; }
  const viewer = new Viewer(host);
  render(<Mounted viewer={viewer} />, element);
  return () => render(null, element);
}

function Mounted({ viewer }: { viewer: Viewer }) {
  const client = useMemo(() => pageClient(nameHere), []);
  return <Panel viewer={viewer} client={client} />;
}
