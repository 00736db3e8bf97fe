"""`make test`: generated files agree with the notebooks, the notebooks keep the house rules, and every one of them runs

usage: check.py [--flags slow] [--only GLOB] [-n WORKERS]
With --flags, only the notebooks that have cells with that flag run, these cells included. Every notebook runs in a process of
its own, without the network. The last line is `N passed, N failed`."""
import argparse, ast, hashlib, json, os, re, signal, socket, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor, as_completed
from fnmatch import fnmatch
from multiprocessing import get_context
from pathlib import Path

root = Path(__file__).resolve().parent.parent
nbs = root/'nbs'
FLAGS = 'slow', 'data', 'gpu'
FIRST = '80_torture', '06a_runs', '20f_traversing', '03_train', '14_nulls', '04_repel', '21_analyze', '17_artifact_tests', '20e_connectivity', '09a_matching', '20d_unknown', '20g_alternatives', '81_determinism', '80_benchmarks', '06b_cluster' # the longest start first, so that none is left to end alone
# Imported once, in the process that all notebooks' processes are forked from
PRELOAD = ['nbdev.test', 'torch', 'torchvision', 'fastai.basics', 'fastai.callback.all', 'pandas', 'scipy.stats', 'sklearn.manifold', 'sklearn.datasets', 'seaborn', 'joblib']

def notebooks()->list[Path]:
    return [p for p in sorted(nbs.rglob('*.ipynb')) if not any(o[0] in '._' for o in p.relative_to(nbs).parts)]

def tree()->dict:
    "Path -> SHA-256 of every file that git tracks or would track"
    names = subprocess.run(['git','ls-files','-co','--exclude-standard','-z'], cwd=root, check=True, capture_output=True, text=True).stdout
    return {n: hashlib.sha256((root/n).read_bytes()).hexdigest() for n in names.split('\0') if n and (root/n).is_file()}

def differences(before:dict, after:dict)->list[str]:
    return sorted(n for n in before.keys()|after.keys() if before.get(n)!=after.get(n))

# --- generated files

STEPS = {'export': ['-c', 'from nbdev.doclinks import nbdev_export; nbdev_export()'],
         'clean':  ['-c', 'from nbdev.clean import nbdev_clean; nbdev_clean()'],
         'README': ['.ci/readme.py']}

def generated(step:str)->str:
    "Why `step` finds something to change, or '' "
    before = tree()
    r = subprocess.run([sys.executable, *STEPS[step]], cwd=root, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if r.returncode: return r.stdout+r.stderr
    diff = differences(before, tree())
    return diff and f"it changed {', '.join(diff)}: commit what `make export` leaves"

# --- one version

VERSION = {'settings.ini': r'^version = (.+)$', 'chromatic/__init__.py': r'^__version__ = "(.+)"$', 'CITATION.cff': r'^version: (.+)$', 'CHANGELOG.md': r'^## (.+?),'}
DAY = {'CITATION.cff': r'^date-released: (.+)$', 'CHANGELOG.md': r'^## .+?, (.+)$'}

def versions()->str:
    "Where the version, or the day of its release, is not the same everywhere, or '' "
    read = lambda f,p: m[1] if (m := re.search(p, (root/f).read_text(encoding='utf-8'), re.M)) else None
    found = [{f: read(f, p) for f,p in names.items()} for names in (VERSION, DAY)]
    if found[1]['CHANGELOG.md']=='unreleased': found.pop() # the day of the last release stands in CITATION.cff until the next
    return '; '.join(f'{f} says {v}' for o in found if len({*o.values()})>1 or None in o.values() for f,v in o.items())

# --- house rules (STYLE.md), those that a machine can see

def number(p:Path)->str: return m[1] if (m := re.match(r'(\d+[a-z]?)_', p.name)) else ''

def house_rules(p:Path, chapters:dict)->list[str]:
    "What notebook `p` does against the house's rules; `chapters`: module -> notebook"
    nb, out = json.loads(p.read_text(encoding='utf-8')), []
    code = [''.join(c['source']) for c in nb['cells'] if c['cell_type']=='code']
    exported = [s for s in code if re.search(r'^#\|\s*export', s, re.M)]
    if len(nb['cells'])>60: out.append(f"{len(nb['cells'])} cells, at most 60")
    lines = sum(bool(l.strip()) and not l.startswith('#|') for s in exported for l in s.splitlines())
    if lines>200: out.append(f'{lines} exported lines, at most 200')
    if any(re.search(r'^#\|\s*eval:\s*false', s, re.M) for s in code): out.append('`#| eval: false` hides rot: use `#| slow`')
    for c in nb['cells']:
        src = ''.join(c['source'])
        if c['cell_type']=='markdown' and re.match(r'# \S', src) and not re.fullmatch(r'# .+(\s*\n> .+)?\s*', src):
            out.append('the cell with the title holds more than `# Title` and `> one sentence`, which nbdev drops from the site')
        for o in c.get('outputs', []):
            if o['output_type']=='error': out.append(f"a stored traceback: {o.get('ename')}")
            if o.get('name')=='stderr': out.append('a stored warning or progress bar: '+''.join(o['text'])[:80].strip())
            text = ''.join(''.join(v) for k,v in o.get('data', {}).items() if k.startswith('text/'))+''.join(o.get('text', ''))
            if m := re.search(r'(?<![\w.])/(?:home|root|tmp|work|Users|var)/\S*', text): out.append(f'a path of one machine in an output: {m[0][:60]}')
            size = sum(len(''.join(v)) for v in o.get('data', {}).values())
            if size>200_000: out.append(f'an output of {size//1000} kB')
    for m in re.findall(r'^\s*from chromatic\.(\w+) import', '\n'.join(exported), re.M):
        if m in chapters and number(chapters[m])>=number(p): out.append(f'imports {m}, which does not come before it')
    return out

def chapter_of()->dict:
    "Module -> the notebook that exports it"
    found = {}
    for p in notebooks():
        if m := re.search(r'#\|\s*default_exp\s+([\w.]+)', p.read_text(encoding='utf-8')): found[m[1]] = p
    return found

# --- running

def offline():
    "Let this process reach nothing but this machine"
    real, lookup, here = socket.socket.connect, socket.getaddrinfo, ('localhost','127.0.0.1','::1','0.0.0.0','',None)
    def connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in here: raise OSError(f'tests run offline: {address}')
        return real(self, address)
    def getaddrinfo(host, *args, **kw):
        if host not in here: raise socket.gaierror(f'tests run offline: {host}')
        return lookup(host, *args, **kw)
    socket.socket.connect, socket.getaddrinfo = connect, getaddrinfo

def run_notebook(p:Path, flags:tuple, limit:int, result):
    "In a process of its own: run `p` as nbdev_test does, its traceback going to stderr; whether it passed, and its seconds, to `result`"
    os.setsid()
    def late(*_): raise TimeoutError(f'{p.name} ran longer than {limit} s')
    signal.signal(signal.SIGALRM, late)
    signal.alarm(limit)
    offline()
    from nbdev.test import test_nb
    start = time.time()
    ok, _ = test_nb(p, skip_flags=FLAGS, force_flags=flags, basepath=root)
    sys.stderr.flush()
    result.send((ok, time.time()-start))

def in_process(p:Path, flags:tuple, limit:int, ctx)->tuple[bool,float]:
    "Start `run_notebook`, wait for what it sends, and end it with whatever it has started"
    ours, theirs = ctx.Pipe(False)
    job = ctx.Process(target=run_notebook, args=(p, flags, limit, theirs))
    job.start()
    theirs.close()
    try:
        if ours.poll(limit+30): return ours.recv()
        print(f'{p.name}: no end after {limit+30} s', file=sys.stderr)
        return False, limit
    except EOFError:
        print(f'{p.name}: its process died', file=sys.stderr)
        return False, 0
    finally:
        try: os.killpg(job.pid, signal.SIGKILL)
        except ProcessLookupError: job.kill()
        job.join()

def run_all(files:list[Path], flags:tuple, workers:int)->list[str]:
    "Run `files`, `workers` at a time; names of those that failed"
    failed, limit = [], 1800 if flags else 600
    ctx = get_context('spawn' if os.path.exists('/dev/nvidiactl') else 'forkserver') # CUDA does not survive a fork
    if ctx.get_start_method()=='forkserver': ctx.set_forkserver_preload(PRELOAD)
    with ThreadPoolExecutor(workers) as pool:
        jobs = {pool.submit(in_process, p, flags, limit, ctx): p for p in files}
        for j in as_completed(jobs):
            ok, secs = j.result()
            print(f"{'passed' if ok else 'FAILED'}  {jobs[j].relative_to(nbs)}  {secs:.1f} s", flush=True)
            if not ok: failed.append(jobs[j].name)
    return failed

def main()->int:
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument('--flags', default='', help='run the cells with these flags too, and only notebooks that have some')
    a.add_argument('--only', default='*', help='glob of notebook names')
    a.add_argument('-n', type=int, default=2, help='notebooks at a time')
    a = a.parse_args()
    flags, start, before = tuple(a.flags.split()), time.time(), tree()
    files = sorted((p for p in notebooks() if fnmatch(p.name, a.only)), key=lambda p: FIRST.index(p.stem) if p.stem in FIRST else len(FIRST))
    os.environ |= {'PYTHONPATH': str(root), 'PYTHONWARNINGS': 'ignore::FutureWarning:torch.jit._script', 'MPLBACKEND': 'agg', 'HF_HUB_OFFLINE': '1', 'PYTHONHASHSEED': '0'}
    if not flags: os.environ.setdefault('OMP_NUM_THREADS', '1') # as many notebooks at a time as cores: more threads only wait for each other
    failed, n = [], 0
    def note(name, why):
        nonlocal n; n += 1
        print(f"{'FAILED' if why else 'passed'}  {name}"+(f'\n    {why}' if why else ''), flush=True)
        if why: failed.append(name)
    if flags: files = [p for p in files if re.search(rf"#\|\s*(?:{'|'.join(flags)})\b", p.read_text(encoding='utf-8'))]
    else:
        for s in STEPS: note(f'{s} leaves no difference', generated(s))
        note('one version in settings.ini, the package, CITATION.cff and CHANGELOG.md', versions())
        chapters, start_tree = chapter_of(), tree()
        broken = {p.name: r for p in files if (r := house_rules(p, chapters))}
        note(f'house rules in {len(files)} notebooks', '\n    '.join(f'{k}: {w}' for k,v in broken.items() for w in v))
    before = tree()
    failed += run_all(files, flags, a.n); n += len(files)
    diff = differences(before, tree())
    note('the notebooks leave no file behind', diff and f"changed: {', '.join(diff)}")
    print(f'{time.time()-start:.0f} s'+(f"; failed: {', '.join(failed)}" if failed else ''))
    print(f'{n-len(failed)} passed, {len(failed)} failed')
    return int(bool(failed))

if __name__ == '__main__': sys.exit(main())
