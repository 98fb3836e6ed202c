// The rows of bench/micro in Go, for bench/runtime.py: NAME<TAB>NS_PER_OP, the best of some rounds.
// GOMAXPROCS is 1, and 2 for the rows whose names end in _2w.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

const rounds = 15

//go:noinline
func nothing() {}

// Batches of goroutines that do nothing, and waiting for each batch.
func spawnBatches(n, size int) {
	var group sync.WaitGroup
	for i := 0; i < n/size; i++ {
		group.Add(size)
		for j := 0; j < size; j++ {
			go group.Done()
		}
		group.Wait()
	}
}

func spawnJoin(n int)     { spawnBatches(n, 256) }
func spawnJoin1000(n int) { spawnBatches(n, 1000) }

// Two goroutines, each with batches of its own.
func spawnJoin2(n int) {
	var both sync.WaitGroup
	both.Add(2)
	for i := 0; i < 2; i++ {
		go func() {
			spawnBatches(n/2, 1000)
			both.Done()
		}()
	}
	both.Wait()
}

func yield1000(n int) {
	var group sync.WaitGroup
	group.Add(1000)
	for i := 0; i < 1000; i++ {
		go func() {
			for j := 0; j < n/1000; j++ {
				runtime.Gosched()
			}
			group.Done()
		}()
	}
	group.Wait()
}

func channelPingpong(n int) {
	a, b := make(chan int), make(chan int)
	go func() {
		for i := 0; i < n; i++ {
			b <- <-a
		}
	}()
	for i := 0; i < n; i++ {
		a <- i
		<-b
	}
}

func channelBounded(n int) {
	c := make(chan int, 1024)
	go func() {
		for i := 0; i < n; i++ {
			c <- i
		}
	}()
	for i := 0; i < n; i++ {
		<-c
	}
}

func selectReady(n int) {
	a, b := make(chan int), make(chan int, n)
	for i := 0; i < n; i++ {
		b <- i
	}
	start()
	for i := 0; i < n; i++ {
		select {
		case <-a:
		case <-b:
		}
	}
}

func selectPending(n int) {
	a, b := make(chan int), make(chan int)
	go func() {
		for i := 0; i < n; i++ {
			a <- i
		}
	}()
	for i := 0; i < n; i++ {
		select {
		case <-a:
		case <-b:
		}
	}
}

func join3Ready(n int) {
	for i := 0; i < n; i++ {
		var group sync.WaitGroup
		group.Add(3)
		for j := 0; j < 3; j++ {
			go func() {
				nothing()
				group.Done()
			}()
		}
		group.Wait()
	}
}

// Three goroutines and waiting for them, each of which lets others run once.
func join3Pending(n int) {
	for i := 0; i < n; i++ {
		var group sync.WaitGroup
		group.Add(3)
		for j := 0; j < 3; j++ {
			go func() {
				runtime.Gosched()
				group.Done()
			}()
		}
		group.Wait()
	}
}

func timeoutPending(n int) {
	for i := 0; i < n; i++ {
		_, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		runtime.Gosched()
		cancel()
	}
}

func mutex(n int) {
	var m sync.Mutex
	for i := 0; i < n; i++ {
		m.Lock()
		m.Unlock()
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func timers(n int) {
	var group sync.WaitGroup
	group.Add(n)
	for i := 0; i < n; i++ {
		go func(ms int) {
			time.Sleep(time.Duration(ms) * time.Millisecond)
			group.Done()
		}(1 + i%20)
	}
	group.Wait()
}

// Resident memory per waiting goroutine.
func taskBytes(n int) float64 {
	var ready, done sync.WaitGroup
	debug.SetGCPercent(-1) // it would count its own work and what it gives back
	end := make(chan struct{})
	before := residentBytes()
	ready.Add(n)
	done.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			ready.Done()
			<-end
			done.Done()
		}()
	}
	ready.Wait()
	bytes := (residentBytes() - before) / float64(n)
	close(end)
	done.Wait()
	return bytes
}

func residentBytes() float64 {
	var size, resident float64
	text, err := os.ReadFile("/proc/self/statm")
	if err == nil {
		_, err = fmt.Sscan(string(text), &size, &resident)
	}
	if err != nil {
		panic(err)
	}
	return resident * float64(os.Getpagesize())
}

var began time.Time

func start() { began = time.Now() }

func isWanted(name string) bool {
	for _, wanted := range os.Args[1:] {
		if wanted == name {
			return true
		}
	}
	return len(os.Args) == 1
}

func measure(name string, n, procs int, fn func(int)) {
	if !isWanted(name) {
		return
	}
	runtime.GOMAXPROCS(procs)
	best := time.Duration(1 << 62)
	for i := 0; i < rounds; i++ {
		used := cpu()
		start()
		fn(n)
		took := time.Since(began)
		if name == "timer" {
			took = cpu() - used
		}
		if took < best {
			best = took
		}
	}
	fmt.Printf("%s\t%.2f\n", name, float64(best.Nanoseconds())/float64(n))
}

func main() {
	measure("spawn_join", 256000, 1, spawnJoin)
	measure("spawn_join_1000", 300000, 1, spawnJoin1000)
	measure("spawn_join_2w", 600000, 2, spawnJoin2)
	measure("yield_1000", 300000, 1, yield1000)
	measure("channel_pingpong", 200000, 1, channelPingpong)
	measure("channel_bounded", 500000, 1, channelBounded)
	measure("channel_bounded_2w", 500000, 2, channelBounded)
	measure("select_ready", 300000, 1, selectReady)
	measure("select_pending", 200000, 1, selectPending)
	measure("join3_ready", 100000, 1, join3Ready)
	measure("join3_pending", 100000, 1, join3Pending)
	measure("timeout_pending", 200000, 1, timeoutPending)
	measure("mutex", 1000000, 1, mutex)
	measure("timer", 100000, 1, timers)
	if isWanted("task_bytes") {
		runtime.GOMAXPROCS(1)
		fmt.Printf("task_bytes\t%.2f\n", taskBytes(100000))
	}
}
