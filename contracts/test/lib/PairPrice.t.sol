// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {PairPrice} from "../../src/lib/PairPrice.sol";
import {Test} from "../Test.sol";

/// @dev Answers as a pair would, with whatever it was told. It checks nothing that a real pair does.
contract FakePair {
    address public constant token0 = address(1);
    address public constant token1 = address(2);
    uint112 private _reserve0;
    uint112 private _reserve1;
    uint32 private _lastTradeAt;
    uint256 public price0CumulativeLast;
    uint256 public price1CumulativeLast;

    function set(uint112 reserve0, uint112 reserve1, uint256 lastTradeAt, uint256 sum0, uint256 sum1) external {
        (_reserve0, _reserve1, _lastTradeAt) = (reserve0, reserve1, uint32(lastTradeAt));
        (price0CumulativeLast, price1CumulativeLast) = (sum0, sum1);
    }

    function getReserves() external view returns (uint112, uint112, uint32) {
        return (_reserve0, _reserve1, _lastTradeAt);
    }
}

/// @dev What a real pair needs a century or a billion trades for.
contract PairPriceTest is Test {
    using PairPrice for PairPrice.Source;

    FakePair private _pair = new FakePair();
    PairPrice.Source private _source;

    function test_read_ofBothOrders() external {
        vm.warp(1000);
        _pair.set(3, 2, 990, 100, 200);
        vm.assertTrue(_source.open(address(_pair), address(1), address(2)), "the token is token0");
        PairPrice.Reserves memory r = _source.read();
        vm.assertEq(r.token, 3, "token");
        vm.assertEq(r.stable, 2, "stable");
        vm.assertEq(r.sum, 200 + 15 * 2 ** 112, "token1's price, ten seconds more of 3/2");
        vm.assertTrue(_source.open(address(_pair), address(2), address(1)), "the token is token1");
        r = _source.read();
        vm.assertEq(r.token, 2, "token");
        vm.assertEq(r.stable, 3, "stable");
        vm.assertEq(r.sum, 100 + uint256(2 ** 113) / 3 * 10, "token0's price, ten seconds more of 2/3");
        vm.assertFalse(_source.open(address(_pair), address(1), address(3)), "another stablecoin");
        vm.assertFalse(_source.open(address(_pair), address(3), address(2)), "another token");
        vm.assertFalse(_source.open(address(_pair), address(2), address(3)), "another stablecoin, turned");
    }

    function test_read_ofAnEmptyPair() external {
        vm.warp(1000);
        _pair.set(0, 0, 990, 5, 7);
        vm.assertTrue(_source.open(address(_pair), address(1), address(2)), "opened");
        vm.assertEq(_source.read().sum, 7, "as the pair, it adds nothing");
    }

    function test_average_acrossBothOverflows() external {
        vm.warp(2 ** 32 - 100);
        _pair.set(6, 3, block.timestamp, 0, type(uint256).max);
        _source.open(address(_pair), address(1), address(2));
        vm.warp(2 ** 32 + 1700);
        vm.assertEq(_source.average(_source.read(), 10, 5), 4, "10 * 2 / 5");
        // A trade in between, after the pair's clock began anew.
        _pair.set(9, 3, 2 ** 32 + 800, 0, 2 * 900 * 2 ** 112 - 1);
        vm.assertEq(_source.average(_source.read(), 10, 5), 5, "10 * 2.5 / 5");
        vm.assertEq(_source.average(_source.read(), 10, 6), 5, "25 / 6, rounded up");
    }

    function test_fuzz_average(uint112 reserve0, uint112 reserve1, uint256 elapsed, uint112 amount) external {
        vm.assume(reserve0 != 0 && reserve1 != 0);
        vm.warp(1_770_000_000);
        _pair.set(reserve0, reserve1, block.timestamp, 0, 0);
        _source.open(address(_pair), address(1), address(2));
        vm.warp(block.timestamp + _bound(elapsed, PairPrice.WINDOW, 3650 days));
        uint256 actual = _source.average(_source.read(), amount, 1);
        uint256 price = (uint256(reserve0) << 112) / reserve1;
        // A steady price is its own average. Both factors fit 224 and 112 bits; compare within 256.
        vm.assume(price < 2 ** 144);
        uint256 exact = amount * price;
        vm.assertEq(actual, (exact >> 112) + (exact << 144 == 0 ? 0 : 1), "amount * price, rounded up");
    }
}
