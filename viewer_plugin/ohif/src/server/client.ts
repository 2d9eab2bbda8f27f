// The server's routes as functions: one place that knows addresses, headers and how problems come back.
import { decodeFrame, MEDIA_TYPE, type Frame } from './frame';
import { answerOf, problemOf, slow } from './problem';
import type {
  CaseView, DraftedView, HelperForm, JobView, LabelView, MeView, ModelView, NewProjectForm, ProjectView, PromptForm, RefusedView, SegmentChangeForm, SegmentForm,
  SessionView, WorkItemView,
} from './types';

const ROOT = '/api/v1';
const PAGE = 1000;
/** After so long without an answer a request is given up: what asks, and what lets a model or a disk work. */
const PATIENCE_MS = { GET: 60_000, other: 300_000 };

type Body = { json: unknown } | { frame: Uint8Array<ArrayBuffer> } | null;
type Fetch = (address: string, init: RequestInit) => Promise<Response>;

export class Client {
  /** `name` is asked for each request: who works here, where nobody needs to sign in. */
  constructor(private readonly fetched: Fetch, private readonly name: () => string) {}

  me = () => this.get<MeView>('/me');
  projects = () => this.get<ProjectView[]>('/projects');
  addProject = (form: NewProjectForm) => this.post<ProjectView>('/projects', form);
  worklist = (project: string) => this.get<WorkItemView[]>(`/projects/${project}/worklist`);
  reviews = (project: string) => this.get<LabelView[]>(`/projects/${project}/reviews`);
  review = (label: string, verdict: 'approved' | 'returned', comment: string) => this.post<LabelView>(`/labels/${label}/review`, { verdict, comment });
  next = (project: string) => this.post<SessionView>(`/projects/${project}/next`, null);
  putAside = (project: string, id: string, reason: string) => this.post<WorkItemView>(`/projects/${project}/cases/${id}/put-aside`, { reason });
  takeBack = (project: string, id: string) => this.post<WorkItemView>(`/projects/${project}/cases/${id}/take-back`, null);
  models = () => this.get<ModelView[]>('/models');
  declareModality = (id: string, modality: 'CT' | 'MR' | 'PT' | 'OT') => this.json<CaseView>('PUT', `/cases/${id}/modality`, { json: { modality } });
  refused = () => this.get<RefusedView[]>('/refused');
  case = (id: string) => this.get<CaseView>(`/cases/${id}`);

  async cases(): Promise<CaseView[]> {
    const found: CaseView[] = [];
    for (;;) {
      const page = await this.get<{ cases: CaseView[]; total: number }>(`/cases?limit=${PAGE}&offset=${found.length}`);
      found.push(...page.cases);
      if (!page.cases.length || found.length >= page.total) return found;
    }
  }

  sessions = () => this.get<SessionView[]>('/sessions');
  open = (project: string, id: string) => this.post<SessionView>(`/projects/${project}/cases/${id}/sessions`, null);
  resume = (session: string) => this.post<SessionView>(`/sessions/${session}/resume`, null);
  heartbeat = (session: string, seconds: number) => this.post<SessionView>(`/sessions/${session}/heartbeat`, { active_s: seconds });
  leave = (session: string) => this.post<SessionView>(`/sessions/${session}/leave`, null);
  lock = (session: string, locked: number[]) => this.json<SessionView>('PUT', `/sessions/${session}/locked`, { json: { locked } });
  /** Where it is not said whether a label is partial, it is as partial as the one that it corrects. */
  submit = (session: string, revision: number, isPartial: boolean | null) =>
    this.json<LabelView>('POST', `/sessions/${session}/submit`, isPartial === null ? null : { json: { is_partial: isPartial } }, revision);
  draft = (session: string, model: string) => this.post<JobView>(`/sessions/${session}/draft`, { model });
  cancel = (job: string) => this.post<JobView>(`/jobs/${job}/cancel`, null);
  job = (id: string) => this.get<JobView>(`/jobs/${id}`);
  jobs = () => this.get<JobView[]>('/jobs');

  labelmap = (session: string, since?: number) =>
    this.frame('GET', `/sessions/${session}/labelmap${since === undefined ? '' : `?since=${since}`}`, null);
  drafted = (session: string) => this.get<DraftedView | null>(`/sessions/${session}/drafted`);
  draftedLabelmap = (session: string) => this.frame('GET', `/sessions/${session}/drafted/labelmap`, null);
  edit = (session: string, frame: Uint8Array<ArrayBuffer>, revision: number) => this.frame('PUT', `/sessions/${session}/labelmap`, { frame }, revision);
  prompt = (session: string, form: PromptForm) => this.frame('POST', `/sessions/${session}/prompts`, { json: form });
  help = (session: string, form: HelperForm) => this.frame('POST', `/sessions/${session}/helpers`, { json: form });
  undo = (session: string) => this.frame('POST', `/sessions/${session}/undo`, null);
  redo = (session: string) => this.frame('POST', `/sessions/${session}/redo`, null);
  addSegment = (session: string, form: SegmentForm) => this.frame('POST', `/sessions/${session}/segments`, { json: form });
  alterSegment = (session: string, index: number, form: SegmentChangeForm) => this.frame('PATCH', `/sessions/${session}/segments/${index}`, { json: form });
  removeSegment = (session: string, index: number) => this.frame('DELETE', `/sessions/${session}/segments/${index}`, null);

  private get = <T>(path: string) => this.json<T>('GET', path, null);
  private post = <T>(path: string, value: unknown) => this.json<T>('POST', path, value === null ? null : { json: value });

  private async json<T>(method: string, path: string, body: Body, revision?: number): Promise<T> {
    return answerOf(await this.asked(method, path, body, revision), async response => (await response.json()) as T);
  }

  private async frame(method: string, path: string, body: Body, revision?: number): Promise<Frame> {
    return answerOf(await this.asked(method, path, body, revision), async response => decodeFrame(await response.arrayBuffer()));
  }

  private async asked(method: string, path: string, body: Body, revision?: number): Promise<Response> {
    const headers: Record<string, string> = { 'X-Annotate-Name': this.name() };
    if (revision !== undefined) headers['If-Match'] = `"${revision}"`;
    let content: BodyInit | null = null;
    if (body && 'json' in body) {
      headers['Content-Type'] = 'application/json';
      content = JSON.stringify(body.json);
    } else if (body) {
      headers['Content-Type'] = MEDIA_TYPE;
      headers['Content-Encoding'] = 'gzip';
      content = await new Response(new Blob([body.frame]).stream().pipeThrough(new CompressionStream('gzip'))).blob();
    }
    const patience = method === 'GET' ? PATIENCE_MS.GET : PATIENCE_MS.other;
    const signal = AbortSignal.timeout(patience);
    try {
      const response = await this.fetched(ROOT + path, { method, headers, body: content, credentials: 'same-origin', signal });
      if (!response.ok) throw await problemOf(response);
      return response;
    } catch (error) {
      throw signal.aborted ? slow(patience / 1000) : error;
    }
  }
}

/** The client of the page: by this browser's fetch. */
export function pageClient(name: () => string): Client {
  return new Client((address, init) => fetch(address, init), name);
}
