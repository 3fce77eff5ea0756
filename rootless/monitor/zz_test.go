package monitor_test
import ("testing";"os";"fmt";"time";"strings";"moss/rootless/container")
func TestZZ(t *testing.T){
 program := os.Getenv("MON")
 var pids []int
 for range 2 { b:=newBox(t,"exec sleep 100"); b.program=program; b.start().Close(); l,_:=container.ReadLive(b.cfg.RunDir); pids=append(pids,l.Monitor)}
 show:=func(){ for _,p:=range pids { d,_:=os.ReadFile(fmt.Sprintf("/proc/%d/smaps",p)); tot:=0; h:=""; out:=""
  for line:=range strings.Lines(string(d)) { f:=strings.Fields(line); if !strings.HasSuffix(f[0],":") {h=strings.TrimSpace(line)}; if strings.HasPrefix(line,"Private_"){n:=0;fmt.Sscan(f[1],&n);tot+=n; if n>0 {out+=fmt.Sprintf("  %6d %s %s\n",n,f[0],h)}}}
  th,_:=os.ReadDir(fmt.Sprintf("/proc/%d/task",p)); fmt.Println(p,"total",tot,"threads",len(th)); fmt.Print(out); break } }
 show(); time.Sleep(1500*time.Millisecond); show()
 d,_:=os.ReadDir(fmt.Sprintf("/proc/%d/fd",pids[0])); for _,e:=range d { l,_:=os.Readlink(fmt.Sprintf("/proc/%d/fd/%s",pids[0],e.Name())); fmt.Print(e.Name(),"=",l," ")}; fmt.Println()
}
