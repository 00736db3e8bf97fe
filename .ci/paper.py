"""`make paper`: every study of the paper from nothing: train, measure, take the results files, run the pages that show them

usage: paper.py [--fast] [--data PATH] [--published FOLDER] [--out FOLDER] [--only NAME,NAME] [--again NAME,NAME] [--list]
--data is an ImageFolder tree (train/<class>/*, test/<class>/*) or a .tar.xz of one; without it torchvision downloads CIFAR-10.
What is trained lies in --out (default _paper, with --fast _paper/fast), results in nbs/results, pages in nbs. The same command goes on where it was cut
short: a step that is done with these flags, and everything that it needs, is not done again (after a change of the code, --again names steps, or remove --out). --fast does all of it in small, on
scikit-learn's digits, and touches nothing but --out. The log, in --out/paper.log too, says what each step is expected to take on
two cores, and from what the steps before it took how long is left. The last line is `N passed, N failed`."""
import argparse, hashlib, json, os, re, shutil, subprocess, sys, tarfile, time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

root = Path(__file__).resolve().parent.parent
LAMBDAS = '0.1', '0.3', '1'
LENGTHS, FEW = ('short', 'middle', 'long'), ('longer', 'longest') # of many members, and of a few that go further
TAKEN = ('first_report.json', 'benchmarks.json', 'size.json', 'recipes', 'power', 'published', 'trajectories/published.json', 'unknown/replicate.json') # results that no step of --fast makes

ABOUT_POWER = """import sys, time
from chromatic.files import read_json, write_json
from chromatic.members import provenance
write_json(sys.argv[2], read_json(sys.argv[1])|dict({k: v for k,v in provenance().items() if k in ('python','versions','commit')}, date=time.strftime('%Y-%m-%d')))"""

@dataclass(frozen=True)
class Step:
    name: str
    minutes: float           # expected on two cores
    what: tuple              # ('command', module, flags …), ('page', notebook, results folder, environment) or ('collect', run, results folder)
    needs: tuple = ()

def runs(fast:bool)->list[Step]:
    "What is trained"
    five = '--fast --epochs 5'
    full = dict(all=(f'{five} --seeds 12', 5), without=(f'{five} --seeds 12 --without airplane', 5), snapshots=(f'{five} --seeds 12 --snapshots 12', 6), default=('--epochs 5 --seeds 12', 10),
                short=('--epochs 5 --seeds 48', 45), middle=('--epochs 8 --seeds 48', 75), long=('--epochs 16 --seeds 48', 155), longer=('--epochs 32 --seeds 4', 27), longest=('--epochs 64 --seeds 4', 53), plain=(f'{five} --seeds 48', 20), twice=('--fast --epochs 10 --seeds 48', 42), recipes=('--recipe fast,default,avgpool,plain,adamw --epochs 5 --seeds 6', 25),
                **{f'repel-{l}': (f'{five} --seeds 24 --m 39 --cohorts 8 --repel --repel_lambda {l} --repel_warmup 2', 13) for l in LAMBDAS})
    two = '--fast --epochs 2 --m 39'
    small = dict(all=(f'{two} --seeds 12', .4), without=(f'{two} --seeds 8 --without 3', .3), snapshots=(f'{two} --seeds 12 --snapshots 12', .4), default=('--epochs 1 --m 39 --seeds 8', .3),
                 short=('--epochs 1 --m 39 --seeds 8', .3), middle=('--epochs 2 --m 39 --seeds 8', .4), long=('--epochs 3 --m 39 --seeds 8', .4), longer=('--epochs 4 --m 39 --seeds 4', .3), longest=('--epochs 5 --m 39 --seeds 4', .3), plain=(f'{two} --seeds 8', .3), twice=('--fast --epochs 4 --m 39 --seeds 8', .3), recipes=('--recipe fast,default,adamw --epochs 2 --m 39 --seeds 6', .5),
                 **{f'repel-{l}': (f'{two} --seeds 6 --cohorts 3 --repel --repel_lambda {l} --repel_warmup 1', .3) for l in LAMBDAS})
    return [Step(f'train {k}', minutes, ('command', 'run', '--dataset', '{dataset}', '--data_root', '{data}', *flags.split(), '--out', k), ('images',)) for k,(flags,minutes) in (small if fast else full).items()]

def studies(fast:bool)->list[Step]:
    "What is asked of the trained, a command each"
    repelled = ','.join(f'repel-{l}' for l in LAMBDAS)
    rows = [('robustness', 'robustness', 'all', '--data_root {data}', '--m 39 --draws 30 --shifts noise,blur', 12, .3), ('the unknown', 'unknown', 'all', '--data_root {data} --ood noise,digits', '--m 39 --ood noise', 3, .3),
            ('the unknown, held out', 'unknown', 'without', '--data_root {data} --ood held-out', '--m 39', 2, .2), ('trajectories', 'trajectories', 'snapshots', '', '--m 19 --paths 19', 6, .3),
            ('connectivity', 'connectivity', 'all', '--data_root {data} --pairs 6', '--m 39 --pairs 3 --epochs 1 --points 5 --images 200', 12, .4), ('traversing', 'traversing', 'all', '--data_root {data} --attract_lambda 0.25,1', '--attract_warmup 1 --m 39', 25, .6),
            ('at equal cost', 'alternatives', 'all', '--data_root {data} --members 4 --repeats 3 --wide 88', '--members 4 --repeats 2 --wide 40 --draws 100', 45, .6), ('other eyes', 'other_eyes', 'all', '--data_root {data}', '--m 39 --halves 5', 4, .3),
            ('lengths', 'lengths', LENGTHS[0], '--longer '+','.join(LENGTHS[1:]), '--m 39', 1, .2), ('rest', 'rest', LENGTHS[0], '--longer '+','.join(LENGTHS[1:]+FEW), '', .3, .2), ('lengths of fast', 'lengths', 'plain', '--longer twice', '--m 39', 1, .2), ('repulsion', 'repulsion', 'plain', f'--repelled {repelled}', '', 1, .2), ('mixtures', 'mixtures', 'recipes', '', '--m 39 --draws 20', 4, .3)]
    beside = {'lengths': tuple(f'train {l}' for l in LENGTHS[1:]), 'rest': tuple(f'train {l}' for l in LENGTHS[1:]+FEW), 'lengths of fast': ('train twice',), 'repulsion': tuple(f'train repel-{l}' for l in LAMBDAS)}
    pairs = lambda text: dict(zip(*[iter(text.split())]*2))
    def step(name, module, run, full, less, minutes, small):
        flags = pairs(full)|(pairs(less) if fast else {})
        return Step(name, small if fast else minutes, ('command', module, '--out', run, *(o for kv in flags.items() for o in kv)), (f'train {run}', *beside.get(name, ())))
    return [step(*r) for r in rows]

def pages(fast:bool)->list[Step]:
    "Results files, and the pages that show them"
    R, D = ('CHROMATIC_RUN={out}/all',), ('CHROMATIC_DATA={data}',)
    rows = [('92_shifted_images', 'robustness', R+D, ('robustness',)), ('92a_unknown_images', 'unknown', ('CHROMATIC_DATA={out}',), ('the unknown','the unknown, held out')),
            ('93_the_way_there', 'trajectories', ('CHROMATIC_SNAPSHOTS={out}/snapshots','CHROMATIC_PLAIN={out}/all')+D, ('trajectories','train all')), ('93a_paths_between', 'connectivity', R, ('connectivity',)),
            ('94_places_reached', 'traversing', R, ('traversing',)), ('95_equal_cost', 'equal_cost', R+D, ('at equal cost',)), ('96_three_eyes', 'other_eyes', R, ('other eyes',)),
            ('97_short_and_long', 'short_and_long', ('CHROMATIC_LENGTHS='+','.join('{out}/'+l for l in LENGTHS),'CHROMATIC_FAST={out}/plain'), ('lengths','rest','lengths of fast')),
            ('97a_repelled', 'repelled', ('CHROMATIC_PLAIN={out}/plain','CHROMATIC_REPELLED='+','.join('{out}/repel-'+l for l in LAMBDAS)), ('repulsion',)), ('97b_many_recipes', 'many_recipes', ('CHROMATIC_RECIPES={out}/recipes',), ('mixtures',))]
    cost = {'93_the_way_there': 4, '95_equal_cost': 2}
    made = [Step(f'results {to}', .1, ('collect', run, to), (f'train {run}',)) for run,to in (('all','first_experiment'), ('default','default_population'))]
    made += [Step(f'page {nb}', .2 if fast else cost.get(nb, 1), ('page', nb, folder, *env), needs) for nb,folder,env,needs in rows]
    if not fast: made += [Step('page 91_published_models', 6, ('page', '91_published_models', 'published', 'CHROMATIC_PUBLISHED={published}')), Step('page 16_power', 90, ('page', '16_power', 'power'))]
    all_ = tuple(s.name for s in made)
    return made+[Step('page 90_first_experiment', .3, ('page', '90_first_experiment', ''), ('results first_experiment',)), Step('page index', .2, ('page', 'index', ''), all_[:2]), Step('page 90_article', .3, ('page', '90_article', ''), all_)]

class Paper:
    "The steps that are done, and those that are not"
    def __init__(self, a):
        self.fast, self.out, self.published, self.given = a.fast, Path(a.out or root/'_paper'/('fast' if a.fast else '')).resolve(), a.published, a.data
        self.nbs = self.out/'nbs' if a.fast else root/'nbs'
        self.dataset = 'digits' if a.fast else 'folder' if a.data else 'cifar10'
        self.data = self.out/'images' if not a.data or a.data.endswith('.tar.xz') else Path(a.data).resolve()
        self.steps = [Step('images', .3 if a.data else .1, ('images',)), *runs(a.fast), *studies(a.fast), *pages(a.fast)]
        self.path, self.children, self.lanes = self.out/'done.json', set(), 2 if a.fast else 1 # two at a time in small, where hardly a step has work for two cores; otherwise each has the machine to itself
        self.done = json.loads(self.path.read_text(encoding='utf-8')) if self.path.exists() else {}

    def say(self, line:str):
        print(line, flush=True)
        with open(self.out/'paper.log', 'a', encoding='utf-8') as f: f.write(line+'\n')

    def key(self, s:Step)->str:
        "What decides a step: itself, the images, the code of a page, and when what it needs was done"
        code = s.what[0]=='page' and [c['source'] for c in json.loads((root/'nbs'/f'{s.what[1]}.ipynb').read_text(encoding='utf-8'))['cells']]
        return hashlib.sha256(json.dumps([s.what, self.dataset, self.given, self.published if '{published}' in str(s.what) else '', code, [self.done.get(n, {}).get('at') for n in s.needs]]).encode()).hexdigest()

    def is_done(self, s:Step)->bool: return self.done.get(s.name, {}).get('key')==self.key(s)

    def keep(self): tmp = self.path.with_suffix('.tmp'); tmp.write_text(json.dumps(self.done, indent=1)); os.replace(tmp, self.path)

    def undo(self, names):
        if [self.done.pop(n) for n in names if n in self.done]: self.keep()

    def fill(self, text:str)->str: return text.format(out=self.out, data='' if self.dataset=='digits' else self.data, dataset=self.dataset, published=self.published)

    # --- what a step does: '' or why it failed

    def images(self)->str:
        if self.fast: return self.scratch()
        if not self.given: return ''
        src, part = Path(self.given), self.out/'images.part'
        if not src.exists(): return f'--data {src}: no such file or folder'
        if src.is_file():
            for o in (part, self.data): shutil.rmtree(o, ignore_errors=True)
            with tarfile.open(src) as t: t.extractall(part, filter='data')
            part.rename(self.data)
        return '' if (self.data/'train').is_dir() and (self.data/'test').is_dir() else f'--data {src}: no train/ and test/ in it'

    def scratch(self)->str:
        "--fast: a folder for pages, with no results but those that no step makes"
        mark = self.nbs/'made by paper.py'
        if self.nbs.exists() and not mark.exists(): return f'--out {self.out}: holds a folder nbs that --fast has not made; choose another'
        if self.nbs.exists(): shutil.rmtree(self.nbs)
        (self.nbs/'results').mkdir(parents=True)
        mark.touch()
        for n in TAKEN:
            src, dst = root/'nbs'/'results'/n, self.nbs/'results'/n
            dst.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(src, dst) if src.is_dir() else shutil.copy2(src, dst)
        shutil.copy2(root/'CITATION.cff', self.nbs)
        return ''

    def command(self, module:str, *flags)->str:
        args = [self.fill(o) for o in flags]
        while '' in args: i = args.index(''); del args[i-1:i+1] # a flag without a value here, as --data_root of digits
        return self.sh([sys.executable, '-m', f'chromatic.{module}', *args], self.out)

    def collect(self, run:str, to:str)->str:
        return self.sh([sys.executable, '-c', 'import sys; from chromatic.run import collect_results; collect_results(*sys.argv[1:])', self.out/run, self.nbs/'results'/to], self.out)

    def page(self, nb:str, folder:str, *env)->str:
        "Run a page, cells that take results included; if that fails, or is cut short, its results are those of before"
        if nb=='91_published_models' and not self.published: self.say('   no --published: its results stay as they are'); return ''
        if self.fast: shutil.copy2(root/'nbs'/f'{nb}.ipynb', self.nbs)
        run = lambda: self.sh([sys.executable, Path(__file__).resolve(), '--execute', self.nbs/f'{nb}.ipynb'], self.nbs, dict(self.fill(e).split('=', 1) for e in env))
        if not folder: return run()
        here, before, why = self.nbs/'results'/folder, self.out/'before'/folder, 'cut short'
        if before.exists(): self.back(before, here) # a call that was killed left it
        if here.exists(): shutil.rmtree(part := before.with_suffix('.part'), ignore_errors=True); shutil.copytree(here, part); part.rename(before)
        else: before.mkdir(parents=True)
        try:
            for p in sorted(here.glob('*')):
                if p.name not in ('published.json','replicate.json'): shutil.rmtree(p) if p.is_dir() else p.unlink() # those are of others, or of an earlier population: nothing here makes them
            why = (folder=='power' and self.sh([sys.executable, '-c', ABOUT_POWER, before/'about.json', here/'about.json'], self.nbs)) or run()
        finally:
            if why: self.back(before, here)
            else: shutil.rmtree(before)
        return why

    def back(self, before:Path, here:Path):
        "Results of before in the place of those that were not finished"
        shutil.rmtree(here, ignore_errors=True)
        if any(before.iterdir()): shutil.copytree(before, here)
        shutil.rmtree(before)

    def sh(self, cmd:list, cwd:Path, env:dict={})->str:
        "Run a command, its output going to the log; why it failed, or ''"
        env = os.environ|dict(PYTHONPATH=str(root), PYTHONUNBUFFERED='1', MPLBACKEND='agg')|(dict(OMP_NUM_THREADS='1') if self.fast else {})|env
        with subprocess.Popen([str(c) for c in cmd], cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as p:
            self.children.add(p)
            last = []
            for line in p.stdout: last = [*last[-30:], line.rstrip()]; self.say('   '+line.rstrip())
        self.children.discard(p)
        return f'exit status {p.returncode}: {" | ".join(last[-3:])}' if p.returncode else ''

    def go(self, only:list, again:list)->int:
        names = [s.name for s in self.steps]
        for n in [*only, *again]:
            if n not in names: print(f'paper.py: no step {n!r}; --list shows them', file=sys.stderr); return 2
        self.out.mkdir(parents=True, exist_ok=True)
        self.undo(again)
        for s in reversed(self.steps): only = [*only, *s.needs] if s.name in only else only # with all that these need
        want, failed, passed, planned = [s for s in self.steps if not only or s.name in only], [], 0, 0.
        left = sum(s.minutes for s in want if not self.is_done(s))
        few = .05*left # the first short steps say little of how fast this machine is
        self.say(f"{time.strftime('%Y-%m-%d %H:%M')}  {len(want)} steps, {sum(map(self.is_done, want))} done; about {minutes(left/self.lanes)} on two cores; in {self.out}")
        started, todo, running, ahead = time.time(), list(want), {}, {s.name for s in want} # ahead: not begun, or running
        with ThreadPoolExecutor(self.lanes) as pool:
            try:
                while todo or running:
                    for s in list(todo):
                        if lost := [n for n in s.needs if n in failed or n not in {*self.done, *ahead}]:
                            self.say(f"FAILED  {s.name}: needs {', '.join(lost)}"); failed.append(s.name); todo.remove(s); ahead.remove(s.name)
                        elif len(running)<self.lanes and not ahead.intersection(s.needs):
                            todo.remove(s)
                            if self.is_done(s): passed += 1; ahead.remove(s.name); continue
                            self.undo([s.name]) # a call that is killed in it has not done it
                            self.say(f"{time.strftime('%H:%M')}  {s.name} ({want.index(s)+1} of {len(want)}), about {minutes(s.minutes)}")
                            running[pool.submit(getattr(self, s.what[0]), *s.what[1:])] = s, time.time()
                    for f in wait(running, return_when=FIRST_COMPLETED)[0] if running else ():
                        (s, t), why = running.pop(f), f.result()
                        ahead.remove(s.name)
                        took = (time.time()-t)/60
                        if why and s.name=='images': print(f'paper.py: {why}', file=sys.stderr); return 2
                        if why: self.say(f'FAILED  {s.name}: {why}'); failed.append(s.name); continue
                        self.done[s.name] = dict(at=time.strftime('%Y-%m-%d %H:%M:%S'), minutes=round(took, 2), key='')
                        self.done[s.name]['key'] = self.key(s)
                        self.keep()
                        planned, passed = planned+s.minutes, passed+1
                        left = sum(o.minutes for o in want if not self.is_done(o) and o.name not in failed)*((time.time()-started)/60+few/self.lanes)/(planned+few)
                        self.say(f"        {s.name} took {minutes(took)} (expected {minutes(s.minutes)}); about {minutes(left)} to go")
            except KeyboardInterrupt:
                for p in list(self.children): p.terminate() # what they were at is done again
                self.say('interrupted: the same command goes on from here')
                return 130
        spent = (time.time()-started)/60
        self.say(f'{minutes(spent)} in this call; pages in {self.nbs}')
        self.say(f'{passed} passed, {len(failed)} failed')
        return int(bool(failed))

def minutes(m:float)->str: return f'{60*m:.0f} s' if m<1 else f'{m:.0f} min' if m<90 else f'{m/60:.1f} h'

def execute(path:str)->int:
    "Run a notebook from top to bottom, cells marked `#| data` too, and keep its outputs; those of the data cells stay as they were"
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    nb = nbformat.read(path, 4)
    old = {i: c.outputs for i,c in enumerate(nb.cells) if c.cell_type=='code' and re.search(r'^#\|\s*data\b', c.source, re.M)}
    slow = {i: (c.source, c.outputs) for i,c in enumerate(nb.cells) if c.cell_type=='code' and re.search(r'^#\|\s*slow\b', c.source, re.M)}
    for i in slow: nb.cells[i].source = ''
    try: NotebookClient(nb, timeout=None, kernel_name='python3').execute()
    except CellExecutionError as e: print(str(e)[-2500:]); return 1
    for i,o in old.items(): nb.cells[i].outputs = o
    for i,(s,o) in slow.items(): nb.cells[i].source, nb.cells[i].outputs = s, o
    nbformat.write(nb, path)
    from nbdev.clean import nbdev_clean
    nbdev_clean(path)
    return 0

def main()->int:
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('--fast', action='store_true', help="in small, on scikit-learn's digits, in --out alone")
    ap.add_argument('--data', default='', help='an ImageFolder tree, or a .tar.xz of one; default: torchvision downloads CIFAR-10')
    ap.add_argument('--published', default='', help='folder with predictions of published models (page 91)')
    ap.add_argument('--out', default='', help='what is trained, and the log')
    ap.add_argument('--only', default='', help='these steps and what they need, commas between'); ap.add_argument('--again', default='', help='steps to do again')
    ap.add_argument('--list', action='store_true', help='the steps, what each is expected to take, and what is done')
    ap.add_argument('--execute', help=argparse.SUPPRESS)
    a = ap.parse_args()
    if a.execute: return execute(a.execute)
    paper, names = Paper(a), lambda s: [o.strip() for o in s.split(',') if o.strip()]
    if a.list:
        for s in paper.steps: print(f"{'done' if paper.is_done(s) else '':5}{minutes(s.minutes):>8}  {s.name}")
        print(f"in all about {minutes(sum(s.minutes for s in paper.steps)/paper.lanes)} on two cores, of which done: {minutes(sum(s.minutes for s in paper.steps if paper.is_done(s))/paper.lanes)}; in {paper.out}")
        return 0
    return paper.go(names(a.only), names(a.again))

if __name__ == '__main__': sys.exit(main())
