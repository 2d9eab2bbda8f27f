// The page that a day begins with: the worklist of a project, without the viewer, which is loaded with the first case.
import { render } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';
import { pageClient } from './server/client';
import { asProblem, type Problem } from './server/problem';
import type { MeView, ModelView, ProjectView } from './server/types';
import { NewProject } from './ui/newProject';
import { ProblemBox } from './ui/problem';
import { Refused } from './ui/refused';
import { nameHere, projectHere, setNameHere, setProjectHere } from './ui/remember';
import { addStyle } from './ui/style';
import { ThemeButton } from './ui/themeButton';
import { Worklist } from './ui/worklist';

function Page() {
  const client = useMemo(() => pageClient(nameHere), []);
  const [me, setMe] = useState<MeView | null>(null);
  const [projects, setProjects] = useState<ProjectView[]>([]);
  const [models, setModels] = useState<ModelView[]>([]);
  const [project, setProject] = useState(projectHere());
  const [problem, setProblem] = useState<Problem | null>(null);
  const load = async () => {
    try {
      setProblem(null);
      const [who, all, known] = await Promise.all([client.me(), client.projects(), client.models()]);
      setProjects(all);
      setModels(known);
      if (!all.some(each => each.id === project)) setProject(all[0]?.id ?? '');
      setMe(who);
    } catch (error) { setProblem(asProblem(error)); }
  };
  useEffect(() => { void load(); }, []);
  const choose = (id: string) => { setProject(id); setProjectHere(id); };

  return (
    <div class="as" data-cy="as-worklist-page">
      <div class="as-row"><h1 class="as-grow">annotate-server</h1>
        {me && (me.verified ? <span>{me.name} ({me.role})</span>
          : <label class="as-row"><span class="as-quiet">You are</span><input type="text" aria-label="Your name" maxLength={64} value={me.name} onChange={event => { setNameHere(event.currentTarget.value.trim()); void load(); }} /></label>)}
        <a href="/viewer/">All studies</a>
        <ThemeButton />
        {me?.verified && <form method="post" action="/sign-out"><button class="as-plain">Sign out</button></form>}
      </div>
      <ProblemBox problem={problem}><button onClick={load}>Try again</button></ProblemBox>
      {me && <Worklist key={`${project} ${me.name}`} client={client} me={me} projects={projects} project={project} current="" onProject={choose} beforeLeaving={async () => true} />}
      {me?.role === 'admin' && <NewProject client={client} models={models} taken={projects.map(each => each.id)} onMade={made => { setProjects([...projects, made]); choose(made.id); }} />}
      {me && <Refused client={client} />}
    </div>
  );
}

addStyle();
render(<Page />, document.getElementById('root')!);
